"""Choosing how an index is searched: the tuned operating point, with the recall and time measured for it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval, OperatingPoint
from clipmill.index.build.factory import holds_vectors, nlist_of
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.queries import Queries
from clipmill.index.build.screen import Screen
from clipmill.index.build.tune import Measured, Parameters, Tuner
from clipmill.index.search.exact import TopK, without_own
from clipmill.index.search.recall import hits, known_scores, recall_interval
from clipmill.index.search.search import ShardedIndex

RERANK_STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384)
"""Re-rank depths tried, in multiples of k."""
DEEPEST = 4096
"""Beyond it re-ranking takes longer than looking into more lists would."""
_TIMED = 100
"""Queries that tell about how long a search takes."""
_LEAST_STEP = 0.002
"""What more recall is asked for at least where too little was confirmed."""


@dataclass(frozen=True)
class Operation:
    """``point`` is what search uses; ``met`` says whether it reaches the target on both sets of queries."""

    point: OperatingPoint
    met: bool
    front: list[OperatingPoint]


@dataclass(frozen=True)
class Bench:
    """One set of queries with their exact results, ``k`` or more of each, to measure an index with on one thread."""

    index: ShardedIndex
    queries: NDArray[np.float32]
    truth: TopK
    k: int
    own: NDArray[np.int64] | None = None
    gallery: Gallery | None = None
    """What the index was built over, which tells exact scores where stored vectors do not."""

    def part(self, chosen: slice) -> "Bench":
        """A bench of some of the queries."""
        own = None if self.own is None else self.own[chosen]
        return replace(
            self, queries=self.queries[chosen], truth=(self.truth[0][chosen], self.truth[1][chosen]), own=own
        )

    def milliseconds(self, parameters: Parameters) -> float:
        """Of a query, in a batch of them."""
        return self._timed(parameters)[1]

    def _timed(self, parameters: Parameters) -> tuple[TopK, float]:
        nprobe, rerank = parameters
        faiss.omp_set_num_threads(1)
        started = time.perf_counter()
        found = self.index.search(self.queries, self.k + (self.own is not None), nprobe=nprobe, rerank=rerank)
        return found, 1000 * (time.perf_counter() - started) / len(self.queries)

    def measure(self, parameters: Parameters) -> Measured:
        """Recall and time."""
        found, milliseconds = self._timed(parameters)
        scores, positions = without_own(found, self.own, self.k)
        if not self.index.vectors.are_exact:
            scores = known_scores(self.truth, positions, self.queries, self.gallery)
        elif not parameters[1]:  # else they are exact
            scores = self.index.vectors.scores(self.queries, positions)
        best = min(self.k, self.index.n - (self.own is not None))
        recall = recall_interval(hits(scores, self.truth[0][:, :best]), best)
        return Measured(parameters, recall, milliseconds)


def tune_all(
    index: ShardedIndex,
    kinds: Sequence[Queries],
    truth: TopK,
    numbers: Sequence[int],
    target: float,
    *,
    exact: bool,
    gallery: Gallery | None = None,
) -> list[tuple[str, int, Operation]]:
    """The operating point for each kind of queries and each number of results. ``truth`` are exact results (q, more than any
    of ``numbers``) of all queries, kind by kind; those of a query itself, where it is of the gallery, are among them."""
    nlist, threads = nlist_of(index.shards[0]), faiss.omp_get_max_threads()
    tuned, first = [], 0
    for queries in kinds:
        chosen = slice(first, first + len(queries.all))
        first = chosen.stop
        kept = truth[0].shape[1] - (queries.own is not None)  # the query itself is not kept at their end either
        of_kind = without_own((truth[0][chosen], truth[1][chosen]), queries.own, kept)
        most = queries.results_asked(max(numbers))
        depth = max(_depths(most, index)) or most
        half = len(queries.tuning)
        screen = Screen(index, queries.tuning, of_kind[1][:half], depth, threads)
        for k in numbers:
            bench = Bench(index, queries.all, of_kind, k, queries.own, gallery)
            operation = choose_operating_point(bench, queries, target, screen, nlist=nlist, exact=exact)
            tuned.append((queries.kind, k, operation))
    return tuned


def choose_operating_point(
    bench: Bench, queries: Queries, target: float, screen: Screen, *, nlist: int, exact: bool
) -> Operation:
    """Tunes nprobe × re-rank depth until the target recall holds, confirmed by queries that were not tuned on.

    ``truth`` (q, k) is the exact result of ``queries.all``, themselves left out; ``screen`` is of those that are tuned on.
    Points that reach the target on the tuning queries are tried on the others, fastest first, until one reaches it there as
    well. Where none does, more is asked of the tuning queries, by as much as was missing, until no point has it; then the best
    recall seen is kept.
    """
    half, k, index = len(queries.tuning), bench.k, bench.index
    tuning, unseen = bench.part(slice(half)), bench.part(slice(half, None))
    if exact:
        point = tuning.measure((0, 0))
        confirmed = _confirm(unseen, point)
        return Operation(_operating_point(point, confirmed), point.recall.value >= target, [])
    timed = tuning.part(slice(_TIMED))

    def look(parameters: Parameters) -> Measured:
        nprobe, rerank = parameters
        recall = screen.recall(nprobe, rerank or queries.results_asked(k), k)
        return Measured(parameters, recall, timed.milliseconds(parameters))

    looked_at: dict[Parameters, Measured] = {}
    measured: dict[Parameters, Measured] = {}
    confirmed_at: dict[Parameters, Interval | None] = {}
    asked = target
    while True:
        tuner = Tuner(look, tuning.measure, asked, looked_at=looked_at, measured=measured)
        tuned = tuner.run(_probes(nlist), _depths(queries.results_asked(k), index))
        front = [_operating_point(point, None) for point in tuned.front]
        missing = 1.0
        for point in tuned.feasible:
            if point.parameters not in confirmed_at:
                confirmed_at[point.parameters] = _confirm(unseen, point)
            confirmed = confirmed_at[point.parameters]
            if confirmed is None or confirmed.value >= target:
                return Operation(_operating_point(point, confirmed), True, front)
            missing = min(missing, target - confirmed.value)
        if not tuned.feasible:
            return Operation(_operating_point(tuned.best, _confirm(unseen, tuned.best)), False, front)
        asked += max(missing, _LEAST_STEP)


def _probes(nlist: int) -> list[int]:
    """1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, … up to every list; only 0 for an index without lists."""
    steps = sorted({quarter << power >> 2 for power in range(21) for quarter in (4, 5, 6, 7)})
    return [*(step for step in steps if step < nlist), nlist]


def _depths(k: int, index: ShardedIndex) -> list[int]:
    """In growing order; only 0 where there is nothing to score results with, or nothing better than the codes."""
    stored = index.vectors
    if not stored.are_there or (not stored.are_exact and all(map(holds_vectors, index.shards))):
        return [0]
    deepest = max(DEEPEST, RERANK_STEPS[2] * k)
    return sorted({min(round(k * step), deepest, index.n) for step in RERANK_STEPS})


def _confirm(bench: Bench, point: Measured) -> Interval | None:
    return bench.measure(point.parameters).recall if len(bench.queries) else None


def _operating_point(point: Measured, confirmed: Interval | None) -> OperatingPoint:
    nprobe, rerank = point.parameters
    return OperatingPoint(
        nprobe=nprobe,
        rerank=rerank,
        recall=point.recall,
        confirmed_recall=confirmed,
        milliseconds_per_query=point.milliseconds,
    )
