"""An operating point that unseen queries do not confirm is followed by a more thorough one, not given up."""

from collections.abc import Callable

import numpy as np
import pytest

from clipmill.core.manifests import Interval
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build import operate
from clipmill.index.build.operate import Bench, choose_operating_point
from clipmill.index.build.queries import Queries
from clipmill.index.build.screen import Screen
from clipmill.index.build.tune import Measured
from clipmill.index.search.search import Index


@pytest.mark.parametrize(("hardest", "met"), [(0.97, True), (0.80, False)])
def test_more_is_asked_until_it_is_confirmed(
    hardest: float,
    met: bool,
    clustered_embeddings: Callable[..., Embeddings],
    indexed: Callable[..., Index],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unseen queries find .04 less than those tuned on; ``hardest`` is the most they find."""
    index = indexed(clustered_embeddings(500, 50), factory="IVF8,PQ8x4fsr").sharded
    vectors = np.ones((20, 16), np.float32)

    def recall(screen: Screen, nprobe: int, rerank: int, k: int) -> Interval:
        value = min(0.80 + 0.02 * np.log2(nprobe * rerank), 1.0)
        return Interval(value=value, low=value, high=value, n=10)

    def measure(bench: Bench, parameters: tuple[int, int]) -> Measured:
        nprobe, rerank = parameters
        found = recall(screen, nprobe, rerank, 1)
        if bench.queries[0, 0] != 1:  # those that were not tuned on
            value = min(found.value - 0.04, hardest)
            found = Interval(value=value, low=value, high=value, n=10)
        return Measured(parameters, found, nprobe * rerank)

    monkeypatch.setattr(operate.Screen, "recall", recall)
    monkeypatch.setattr(operate.Bench, "measure", measure)
    monkeypatch.setattr(operate.Bench, "milliseconds", lambda bench, parameters: parameters[0] * parameters[1])
    queries = Queries("captions", vectors, 2 * vectors)
    truth = (np.ones((40, 1), np.float32), np.zeros((40, 1), np.int64))
    screen = Screen(index, queries.tuning, truth[1][:20], 128, 1)
    bench = Bench(index, queries.all, truth, 1)
    found = choose_operating_point(bench, queries, 0.92, screen, nlist=8, exact=False)
    assert found.met == met
    if met:
        assert found.point.confirmed_recall is not None
        assert found.point.confirmed_recall.value >= 0.92
        assert found.point.recall.value == pytest.approx(0.96)
        assert found.point.milliseconds_per_query == 2**8
