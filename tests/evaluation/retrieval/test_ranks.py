"""Ranks are exact: whatever ties, whatever the block size."""

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import pairs, unit
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.vectors import Vectors


def brute_force(queries: Vectors, gallery: Vectors) -> list[tuple[int, int, int]]:
    """(higher, tied, tied positives) of each query that has a positive, one pair at a time in float64."""
    result = []
    for row, query in zip(queries.rows, queries.values.astype(np.float64), strict=True):
        scores = [sum(query * item) for item in gallery.values.astype(np.float64)]
        own = [score for score, other in zip(scores, gallery.rows, strict=True) if other == row]
        if own:
            best = max(own)
            equal = sum(score == best for score in scores)
            positives = sum(score == best for score in own)
            result.append((sum(score > best for score in scores), equal - positives, positives))
    return result


def every_place(queries: Vectors, gallery: Vectors) -> list[list[tuple[int, int]]]:
    """(higher, equal) of each positive of each query that has one, best first, one pair at a time in float64."""
    result = []
    for row, query in zip(queries.rows, queries.values.astype(np.float64), strict=True):
        scores = [sum(query * item) for item in gallery.values.astype(np.float64)]
        own = sorted((score for score, other in zip(scores, gallery.rows, strict=True) if other == row), reverse=True)
        if own:
            result.append([(sum(s > score for s in scores), sum(s == score for s in scores)) for score in own])
    return result


def places(ranks: Ranks) -> list[list[tuple[int, int]]]:
    result = []
    for start, levels in zip(ranks.starts, ranks.levels, strict=True):
        level = np.repeat(np.arange(start, start + levels), ranks.level_positives[start : start + levels])
        result.append(list(zip(ranks.level_higher[level].tolist(), ranks.level_items[level].tolist(), strict=True)))
    return result


def counted(ranks: Ranks) -> list[tuple[int, int, int]]:
    return list(zip(ranks.higher.tolist(), ranks.tied.tolist(), ranks.tied_positives.tolist(), strict=True))


def with_duplicates(vectors: NDArray[np.float16], seed: int) -> NDArray[np.float16]:
    return vectors[np.random.default_rng(seed).integers(len(vectors), size=len(vectors))]


@pytest.mark.parametrize("noise", [0.3, 3.0])
@pytest.mark.parametrize("duplicates", [False, True])
def test_ranks_are_those_of_comparing_every_pair(noise: float, duplicates: bool) -> None:
    images, captions, rows = pairs(40, 3, noise=noise)
    if duplicates:
        images, captions = with_duplicates(images, 1), with_duplicates(captions, 2)
    image_side, caption_side = Vectors(np.arange(40), images), Vectors(rows, captions)
    for queries, gallery in ((caption_side, image_side), (image_side, caption_side)):
        expected = brute_force(queries, gallery)
        for block, gallery_block in ((7, 11), (64, 64), (4096, 16_384)):
            ranks = rank_positives(queries, gallery, block=block, gallery_block=gallery_block)
            assert counted(ranks) == expected
            assert places(ranks) == every_place(queries, gallery)


@pytest.mark.parametrize("each", [3, 12])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 0.0])
def test_positives_that_most_of_the_gallery_beats_are_ranked_exactly(each: int, spread: float) -> None:
    """Whatever the counting does with rows that many items reach, with many positives, or with scores that hardly differ."""
    random = np.random.default_rng(0)
    centre = random.standard_normal(16)
    images = Vectors(np.arange(20), unit(centre + spread * random.standard_normal((20, 16))))
    captions = Vectors(np.repeat(np.arange(20), each), unit(centre + spread * random.standard_normal((20 * each, 16))))
    for queries, gallery in ((captions, images), (images, captions)):
        assert places(rank_positives(queries, gallery, block=9, gallery_block=50)) == every_place(queries, gallery)


@pytest.mark.parametrize("dimension", [512, 768])
def test_ranks_of_long_vectors_are_those_of_float64(dimension: int) -> None:
    images, captions, rows = pairs(150, 4, dimension, noise=8.0)
    queries, gallery = Vectors(np.arange(150), images), Vectors(rows, captions)
    exact = images.astype(np.float64) @ captions.astype(np.float64).T
    expected = [
        [(int(np.sum(own < line)), int(np.sum(own == line))) for own in sorted(line[rows == row], reverse=True)]
        for row, line in enumerate(exact)
    ]
    assert places(rank_positives(queries, gallery)) == expected


def test_rows_need_no_order_and_items_without_a_partner_are_no_queries() -> None:
    images, captions, rows = pairs(30, 2)
    shuffle = np.random.default_rng(0).permutation(60)
    queries = Vectors(rows[shuffle] + 5, captions[shuffle])
    gallery = Vectors(np.arange(30), images)
    ranks = rank_positives(queries, gallery, block=16)
    assert counted(ranks) == brute_force(queries, gallery)
    assert len(ranks) == 50
    assert np.array_equal(gallery.rows[ranks.best], ranks.rows)
    assert np.array_equal(queries.rows[ranks.positions], ranks.rows)


def test_vectors_that_are_all_alike_score_no_better_than_chance() -> None:
    alike = Vectors(np.arange(200), np.repeat(unit(np.ones((1, 96)) + np.arange(96)), 200, axis=0))
    ranks = rank_positives(alike, alike, block=64)
    assert ranks.hits(1).sum() == pytest.approx(1)
    assert ranks.hits(10).sum() == pytest.approx(10)
    assert ranks.expected_rank().mean() == pytest.approx(100.5)


def test_hits_of_tied_items_are_the_share_of_random_orders_that_hit() -> None:
    one = np.ones(1, np.int64)
    ranks = Ranks(
        rows=one,
        positions=one,
        score=np.zeros(1),
        best=one,
        levels=one,
        level_higher=2 * one,
        level_items=6 * one,
        level_positives=2 * one,
        gallery=10,
    )
    random = np.random.default_rng(0)
    first = np.array([random.permutation([1, 1, 0, 0, 0, 0]).argmax() + 3 for _ in range(20_000)])
    for k in (1, 2, 3, 5, 7):
        assert ranks.hits(k)[0] == pytest.approx(np.mean(first <= k), abs=0.015)
    assert ranks.hits(7)[0] == 1
    assert ranks.expected_rank()[0] == pytest.approx(first.mean(), abs=0.03)


def test_only_the_chosen_queries_are_ranked() -> None:
    images, captions, rows = pairs(20, 2)
    queries, gallery = Vectors(rows, captions), Vectors(np.arange(20), images)
    chosen = np.array([3, 30, 11])
    ranks = rank_positives(queries, gallery, chosen)
    assert np.array_equal(ranks.higher, rank_positives(queries, gallery).higher[chosen])
