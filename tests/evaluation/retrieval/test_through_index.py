"""Recall through an index is counted on the queries of exact search, and their difference is paired."""

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import pairs
from clipmill.evaluation.figures import Figure, find
from clipmill.evaluation.results import ThroughPart
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.retrieval.through_index import Asked, draw_asked, measure_through_index
from clipmill.evaluation.vectors import Vectors

IMAGES, CAPTIONS, ROWS = pairs(80, 3, noise=3.0)
QUERIES, GALLERY = Vectors(ROWS, CAPTIONS), Vectors(np.arange(80), IMAGES)
RANKS = rank_positives(QUERIES, GALLERY)
NOTHING = np.empty((0, 16), np.float32)


def search_all(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return np.argsort(-(queries @ IMAGES.astype(np.float32).T), axis=1)[:, :k]


def search_even(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """An index that has lost every odd image."""
    return 2 * np.argsort(-(queries @ IMAGES[::2].astype(np.float32).T), axis=1)[:, :k]


def asked(count: int = 240) -> Asked:
    return draw_asked(RANKS, QUERIES, count)


def measured(search: object, tuned_on: NDArray[np.float32] = NOTHING) -> ThroughPart:
    found = measure_through_index("t2i", asked(), tuned_on, search, samples=400)
    assert found is not None
    return found


def at(found: ThroughPart, k: int) -> list[Figure]:
    """By exact search, through the index, and the difference."""
    return [
        figure for name in ("exact", "index", "less") if (figure := find(found.figures, f"index.{name}_recall@{k}"))
    ]


def test_an_exact_index_changes_nothing_and_that_is_not_certain() -> None:
    found = measured(search_all)
    for k in (1, 5, 10):
        exact, through, difference = at(found, k)
        assert through.value == exact.value == pytest.approx(RANKS.hits(k).mean())
        assert difference.value == 0
        assert difference.low == -difference.high == pytest.approx(0.025 ** (1 / 80) - 1)


def test_what_an_index_loses_is_the_difference_with_its_interval() -> None:
    found = measured(search_even)
    order = search_even(CAPTIONS.astype(np.float32), 10)
    for k in (1, 5, 10):
        hit = (order[:, :k] == ROWS[:, None]).any(axis=1)
        exact, through, difference = at(found, k)
        assert through.value == pytest.approx(hit.mean())
        assert difference.value == pytest.approx(hit.mean() - RANKS.hits(k).mean())
        assert difference.low < difference.value < difference.high < 0.1
    assert difference.high - difference.low < sum(side.high - side.low for side in (exact, through))


def test_queries_that_the_index_was_tuned_on_are_left_out() -> None:
    assert measured(search_all, CAPTIONS[:100].astype(np.float32)).queries == 140
    assert measure_through_index("t2i", asked(), CAPTIONS.astype(np.float32), search_all) is None


def test_as_many_are_drawn_as_asked_for() -> None:
    drawn = asked(50)
    assert (drawn.rows.shape, drawn.values.shape, drawn.hits.shape) == ((50,), (50, 16), (50, 3))
