"""Fidelity counts what exact search would have returned, whatever the model is worth."""

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import pairs
from clipmill.evaluation.fidelity import Fidelity, measure_fidelity

IMAGES, CAPTIONS, _ = pairs(50, 2)
QUERIES = CAPTIONS.astype(np.float32)
SCORES = QUERIES @ IMAGES.astype(np.float32).T
ORDER = np.argsort(-SCORES, axis=1)


def scores_of(queries: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
    scores = np.einsum("qd,qkd->qk", queries, IMAGES[np.maximum(positions, 0)].astype(np.float32))
    return np.where(positions < 0, -np.inf, scores).astype(np.float32)


def measured(returned: NDArray[np.int64], k: int = 10) -> Fidelity:
    """An index that returns these positions for each query in turn."""
    asked = {query.tobytes(): positions for query, positions in zip(QUERIES, returned, strict=True)}

    def search(queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert queries.shape == (1, QUERIES.shape[1])
        positions = asked[queries[0].tobytes()][None, :k]
        return np.zeros(positions.shape, np.float32), positions

    truth = -np.sort(-SCORES, axis=1)[:, :k]
    return measure_fidelity(search, truth, scores_of, QUERIES, len(IMAGES))


def test_an_exact_index_returns_everything() -> None:
    found = measured(ORDER[:, :10])
    assert (found.k_recall_at_k, found.one_recall_at_one) == (1, 1)
    assert found.intervals["k_recall_at_k"].low < 1


def test_what_is_missing_counts_as_missing() -> None:
    returned = ORDER[:, :10].copy()
    returned[:, 7:] = ORDER[:, 30:33]
    returned[:25, 0] = ORDER[:25, 40]
    returned[:4, 5] = -1
    found = measured(returned)
    assert (found.found, found.wanted) == (100 * 7 - 25 - 4, 1000)
    assert found.k_recall_at_k == pytest.approx(0.671)
    assert found.one_recall_at_one == pytest.approx(0.75)
    interval = found.intervals["k_recall_at_k"]
    assert interval.low < 0.671 < interval.high


def test_latency_is_that_of_each_query_alone() -> None:
    found = measured(ORDER[:, :10])
    assert found.seconds.shape == (100,)
    assert 0 < found.milliseconds(50) <= found.milliseconds(95) <= found.milliseconds(99)
    assert found.milliseconds(100) == pytest.approx(found.seconds.max() * 1000)


def test_an_item_that_finds_itself_and_nothing_else_finds_nothing() -> None:
    queries = IMAGES.astype(np.float32)
    own = np.arange(50)
    others = queries @ queries.T
    others[own, own] = -np.inf
    truth = -np.sort(-others, axis=1)[:, :5]
    asked = {query.tobytes(): position for position, query in enumerate(queries)}

    def selfish(query: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert k == 6
        positions = np.full((1, k), -1)
        positions[0, 0] = asked[query[0].tobytes()]
        return np.ones((1, k), np.float32), positions

    def exact(query: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = query @ queries.T
        positions = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, positions, axis=1), positions

    found = measure_fidelity(selfish, truth, scores_of, queries, 50, "gallery vectors", own=own)
    assert (found.k_recall_at_k, found.one_recall_at_one) == (0, 0)
    found = measure_fidelity(exact, truth, scores_of, queries, 50, "gallery vectors", own=own)
    assert (found.k_recall_at_k, found.one_recall_at_one) == (1, 1)
    assert "its own images, each left out of its own results" in found.figures[0].definition
