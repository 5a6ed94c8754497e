"""Ranks are exact: whatever ties, whatever the block size."""

import numpy as np
import pytest
from captioned import pairs, unit
from numpy.typing import NDArray

from pipeline.evaluate.ranks import Ranks, rank_positives
from pipeline.evaluate.vectors import Vectors


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
        for block in (7, 64, 4096):
            assert counted(rank_positives(queries, gallery, block=block)) == expected


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
    ranks = Ranks(
        rows=np.arange(1),
        positions=np.arange(1),
        higher=np.array([2]),
        tied=np.array([4]),
        tied_positives=np.array([2]),
        score=np.zeros(1),
        best=np.zeros(1, np.int64),
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
