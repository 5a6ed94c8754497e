"""Recall in smaller galleries is the mean over all of them, without drawing any."""

from itertools import combinations

import numpy as np
import pytest

from captioned import pairs, unit
from clipmill.evaluation.retrieval.gallery_size import gallery_sizes, recall_in_gallery
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.vectors import Vectors


def every_gallery(scores: np.ndarray, own: np.ndarray, size: int, k: int) -> float:
    """Share of all galleries of this size that hold the positives in which one is among the first k; no ties."""
    others = [item for item in range(len(scores)) if not own[item]]
    found = []
    for drawn in combinations(others, size - int(own.sum())):
        ahead = sum(scores[item] > scores[own].max() for item in drawn)
        found.append(ahead < k)
    return float(np.mean(found))


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize(("size", "k"), [(2, 1), (5, 1), (5, 3), (8, 2), (10, 1)])
def test_it_is_the_mean_over_every_gallery_of_that_size(each: int, size: int, k: int) -> None:
    images, captions, rows = pairs(10 // each, each, noise=4.0)
    scores = images.astype(np.float64) @ captions.astype(np.float64).T
    ranks = rank_positives(Vectors(np.arange(len(images)), images), Vectors(rows, captions))
    expected = [every_gallery(line, rows == row, size, k) for row, line in enumerate(scores)]
    assert recall_in_gallery(ranks, size, k) == pytest.approx(expected, abs=1e-9)


def test_the_whole_gallery_gives_the_recall_itself_also_where_items_tie() -> None:
    images, captions, rows = pairs(50, 3, noise=4.0)
    images = images[np.random.default_rng(0).integers(50, size=50)]
    for queries, gallery in (
        (Vectors(rows, captions), Vectors(np.arange(50), images)),
        (Vectors(np.arange(50), images), Vectors(rows, captions)),
    ):
        ranks = rank_positives(queries, gallery)
        assert np.any(ranks.tied > 0) or len(gallery) == 150
        for k in (1, 10):
            assert recall_in_gallery(ranks, len(gallery), k) == pytest.approx(ranks.hits(k), abs=1e-9)


def test_a_gallery_all_alike_gives_chance_at_every_size() -> None:
    alike = Vectors(np.arange(300), np.repeat(unit(np.arange(1.0, 17.0)[None]), 300, axis=0))
    ranks = rank_positives(alike, alike)
    assert recall_in_gallery(ranks, 300, 1) == pytest.approx(np.full(300, 1 / 300), rel=1e-6)
    assert recall_in_gallery(ranks, 300, 10) == pytest.approx(np.full(300, 10 / 300), rel=1e-6)
    assert recall_in_gallery(ranks, 10, 1) == pytest.approx(np.full(300, 1 / 10), rel=5e-3)
    assert recall_in_gallery(ranks, 1, 1) == pytest.approx(np.ones(300))


def test_it_agrees_with_drawn_galleries_of_many_items() -> None:
    images, captions, rows = pairs(400, 1, 32, noise=4.0)
    scores = captions.astype(np.float64) @ images.astype(np.float64).T
    ranks = rank_positives(Vectors(rows, captions), Vectors(np.arange(400), images))
    random, found = np.random.default_rng(0), []
    for _ in range(300):
        drawn = np.argsort(random.random((400, 400)) - 2 * np.eye(400), axis=1)[:, :100]
        ahead = np.take_along_axis(scores, drawn, axis=1) > np.diag(scores)[:, None]
        found.append(np.mean(ahead.sum(axis=1) < 1))
    assert recall_in_gallery(ranks, 100, 1).mean() == pytest.approx(np.mean(found), abs=0.003)


def test_sizes_are_powers_of_ten_and_the_whole() -> None:
    assert gallery_sizes(25_000) == (10, 100, 1000, 10_000, 25_000)
    assert gallery_sizes(10) == (10,)
    assert gallery_sizes(1) == (1,)
