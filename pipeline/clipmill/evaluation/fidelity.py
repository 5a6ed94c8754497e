"""How much of exact search an index returns, and how fast: the model's quality plays no part in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval, queries_in_words
from clipmill.evaluation.figures import Figure, Metric, metric
from clipmill.index.search.exact import without_own
from clipmill.index.search.recall import hits, recall_interval

Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Queries (q, d) and k to scores and positions (q, k), best first; −inf and −1 where there has exited."""
WARM_UP = 5
"""Queries that are asked once before the clock runs."""
LATENCY_AT = (50, 95, 99)
COLD_QUERIES = 20
"""Queries that are asked once more with nothing of the stored vectors in memory."""


@dataclass(frozen=True)
class Fidelity:
    """Counts over queries, with exact search over the vectors as they were embedded as truth.

    ``found`` counts returned items whose exact score reaches that of the k-th best; ``first`` counts queries whose
    first result scores as high as the best. Of items with equal scores each is as good as the other.
    ``each`` int64 (q,) are the items found by query. ``seconds`` holds the wall time of each query, asked one at a time
    on one thread, and ``cold`` that of some whose vectors for re-ranking had to be read from disk.
    """

    k: int
    queries: int
    query_kind: str
    gallery: str
    n: int
    found: int
    wanted: int
    first: int
    seconds: NDArray[np.float64]
    intervals: dict[str, Interval]
    each: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    cold: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def k_recall_at_k(self) -> float:
        """The share of the best items that were found."""
        return self.found / self.wanted

    @property
    def one_recall_at_one(self) -> float:
        """The share of queries whose best item came first."""
        return self.first / self.queries

    def milliseconds(self, percentile: float) -> float:
        """The latency at a percentile of the queries."""
        return float(np.percentile(self.seconds, percentile) * 1000)

    @property
    def recall(self) -> Metric:
        """What `found` of `wanted` is called."""
        return metric(f"index.{self.k}_recall@{self.k}", queries=queries_in_words(self.query_kind, self.gallery))

    @property
    def figures(self) -> list[Figure]:
        """Recall with its intervals, then latencies."""
        asked = queries_in_words(self.query_kind, self.gallery)
        return [
            self.recall.figure(self.intervals["k_recall_at_k"]),
            metric("index.1_recall@1", queries=asked).figure(self.intervals["one_recall_at_one"]),
            *(metric(f"index.latency_p{at}").figure(self.milliseconds(at), self.queries) for at in LATENCY_AT),
            *self._cold_figures,
        ]

    @property
    def _cold_figures(self) -> list[Figure]:
        if not len(self.cold):
            return []
        return [metric("index.latency_cold").figure(float(np.median(self.cold) * 1000), len(self.cold))]


def measure_fidelity(
    search: Search,
    truth: NDArray[np.float32],
    exact_scores_of: Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]],
    queries: NDArray[np.float32],
    n: int,
    query_kind: str = "captions",
    gallery: str = "images",
    progress: Callable[[int], object] = lambda done: None,
    *,
    own: NDArray[np.int64] | None = None,
) -> Fidelity:
    """Asks an index of ``n`` items every query (q, d), one at a time, and compares with exact search.

    ``truth`` (q, k) are the scores of exact search, best first. ``exact_scores_of`` gives the exact scores (q, k) of
    queries with the items at positions (q, k), −inf where these are −1. The caller keeps search on one thread. The first
    few queries are asked once before. ``progress`` is called with 1 after each query. ``own`` (q,) are the positions of
    queries that are items of the index themselves: these are left out of their results, as they are of ``truth``.
    """
    k = truth.shape[1]
    asked = k + (own is not None)
    for query in queries[:WARM_UP]:
        search(query[None], asked)
    seconds = np.empty(len(queries))
    positions = np.full((len(queries), k), -1, np.int64)
    for number, query in enumerate(queries):
        started = perf_counter()
        found = search(query[None], asked)
        seconds[number] = perf_counter() - started
        positions[number] = without_own(found, None if own is None else own[number : number + 1], k)[1][0]
        progress(1)
    scores = exact_scores_of(queries, positions)
    # Of items with equal scores each is as good as the other, so scores are compared and not positions.
    each = np.minimum(hits(scores, truth), k)
    first = hits(scores[:, :1], truth[:, :1])
    return Fidelity(
        k=k,
        queries=len(queries),
        query_kind=query_kind,
        gallery=gallery,
        n=n,
        found=int(each.sum()),
        wanted=len(queries) * k,
        first=int(first.sum()),
        seconds=seconds,
        intervals={"k_recall_at_k": recall_interval(each, k), "one_recall_at_one": recall_interval(first, 1)},
        each=each,
    )


def measure_cold(
    search: Search, queries: NDArray[np.float32], k: int, evict: Callable[[], bool]
) -> NDArray[np.float64]:
    """Seconds of each of a few queries after ``evict``; none where that is not possible."""
    seconds = []
    for query in queries[:COLD_QUERIES]:
        if not evict():
            break
        started = perf_counter()
        search(query[None], k)
        seconds.append(perf_counter() - started)
    return np.array(seconds)
