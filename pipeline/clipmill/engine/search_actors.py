"""Batches of queries on Ray: actors hold the shards of an index in memory, each answers for its own, and what they found is
merged exactly. Where there are more actors than shards, whole copies of the index share the queries."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import IndexManifest
from clipmill.datasets.shards import read_shards
from clipmill.engine.cluster import Cluster, cause_of, describe_load
from clipmill.engine.ray_pieces import begin_task, memory_of_a_node, threads_each
from clipmill.engine.watch import noted_signals
from clipmill.index.build.layout import places
from clipmill.index.search.batch import Answer, QueryBatch, query_batches, results_table, write_answers
from clipmill.index.search.exact import TopK, best_of_all
from clipmill.index.search.open import open_part
from clipmill.index.search.query_file import Encode
from clipmill.index.search.search import Effort, checked_queries, effort_for
from clipmill.index.search.selection import select

_AHEAD = 2
"""Batches under way for each copy of the index: one that is searched, and one that waits, so that no actor idles."""
_POLL_SECONDS = 0.5
_RESTARTS = 3
_HELD = 1.1
"""Bytes in memory for each byte of a shard's file, with what a batch of queries takes."""
_PROCESS_BYTES = 400_000_000


@dataclass(frozen=True)
class BatchSearch:
    """A file of queries to be answered by ``actors``. ``cache`` is where they keep copies of an index on S3; ``resident``: they
    hold stored vectors in memory."""

    index: str
    manifest: IndexManifest
    queries: str
    output: str
    k: int
    where: str | None
    actors: int
    cache: Path
    resident: bool = False


class _Shards:
    """An actor that holds some shards of an index in memory."""

    def __init__(self, asked: BatchSearch, numbers: range) -> None:
        begin_task()
        self._part = open_part(asked.index, asked.manifest, numbers, asked.cache, resident=asked.resident)
        self._selection = None if asked.where is None else select(self._part.table, asked.where)

    def selected(self) -> tuple[int | None, bool]:
        """Rows of these shards that may be returned (None: all), and whether the shards can leave others out."""
        count = None if self._selection is None else self._selection.count
        return count, self._part.sharded.selects

    def found(self, queries: NDArray[np.float32], k: int, effort: Effort) -> TopK:
        return self._part.found(queries, k, effort, self._selection)

    def names(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], pa.Array]:
        return self._part.names(positions)


class _Copy:
    """The actors that together hold every shard once."""

    def __init__(
        self, asked: BatchSearch, runs: Sequence[range], starts: Sequence[int], threads: int, memory: Sequence[int]
    ) -> None:
        actor: Any = ray.remote(_Shards)
        options = {
            "num_cpus": threads,
            "max_restarts": _RESTARTS,
            "max_task_retries": _RESTARTS,
            "scheduling_strategy": "SPREAD",
        }
        self.actors = [
            actor.options(**options, memory=most or None).remote(asked, run)
            for run, most in zip(runs, memory, strict=True)
        ]
        self._starts = np.array(starts)
        self._merge: Any = ray.remote(num_cpus=0)(_merge)

    def begin(self, batch: QueryBatch, k: int, effort: Effort) -> Any:
        """A reference to the best of what all actors find for a batch."""
        queries = ray.put(batch.vectors)
        return self._merge.remote(k, *(actor.found.remote(queries, k, effort) for actor in self.actors))

    def begin_naming(self, positions: NDArray[np.int64]) -> list[Any]:
        """References to rows and ids of ``positions`` (n,), in the order of the actors that hold them (`held_by`)."""
        holders = self.held_by(positions)
        return [
            actor.names.remote(positions[holders == number])
            for number, actor in enumerate(self.actors)
            if (holders == number).any()
        ]

    def held_by(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the actor that holds each of ``positions``."""
        return np.searchsorted(self._starts, positions, side="right") - 1


def _merge(k: int, *found: TopK) -> TopK:
    return best_of_all(found, k)


def search_on_actors(
    asked: BatchSearch,
    encode: Encode,
    cluster: Cluster,
    stall_timeout: float,
    on_stage: Callable[[str], None],
    on_answered: Callable[[int], object],
) -> tuple[int, int | None]:
    """Answers a file of queries as `search_batch` does, with the same results.

    Returns the number of queries, and that of the rows that meet ``asked.where`` (None without it). ``on_answered`` is
    given the number of queries just answered, ``on_stage`` told in words what is being done. Raises UserError for queries
    that cannot be searched, RunFailed where actors fail for good or nothing moves for ``stall_timeout`` seconds.
    """
    copies = _copies(asked, cluster)
    on_stage(_opening(copies, asked.manifest.shards))
    with noted_signals() as stop_if_told:
        waiting = _Waiting(stall_timeout, stop_if_told)
        try:
            told = waiting.get([actor.selected.remote() for copy in copies for actor in copy.actors], "shards to open")
            counts = [count for count, _ in told[: len(copies[0].actors)] if count is not None]
            selected = sum(counts) if asked.where is not None else None
            answers = _answers(asked, copies, encode, selected, all(selects for _, selects in told), waiting)
            return write_answers(asked.output, answers, on_answered), selected
        except ray.exceptions.RayError as error:
            raise cause_of(error, "searching", "nothing was written: run the same command again") from error


def _answers(
    asked: BatchSearch,
    copies: Sequence[_Copy],
    encode: Encode,
    selected: int | None,
    selects: bool,
    waiting: "_Waiting",
) -> Iterator[Answer]:
    manifest = asked.manifest
    k = min(asked.k, manifest.n)
    nprobe, rerank = manifest.promise_for(None, k).at(k)
    stored = manifest.rerank_vectors.kind != "none"
    effort = effort_for(k, nprobe, rerank, manifest.n, selected, selects=selects, stored=stored)
    under_way: deque[tuple[QueryBatch, _Copy, Any]] = deque()
    for number, batch in enumerate(query_batches(asked.queries, manifest.dimension, k, encode)):
        checked_queries(batch.vectors, k, manifest.dimension)
        copy = copies[number % len(copies)]
        under_way.append((batch, copy, copy.begin(batch, k, effort)))
        if len(under_way) > _AHEAD * len(copies):
            yield _named(*under_way.popleft(), waiting)
    while under_way:
        yield _named(*under_way.popleft(), waiting)


def _named(batch: QueryBatch, copy: _Copy, merged: Any, waiting: "_Waiting") -> Answer:
    what = f"queries {batch.first:,} to {batch.first + len(batch.vectors) - 1:,}"
    scores, positions = waiting.get([merged], what)[0]
    found = positions[positions >= 0]
    parts = waiting.get(copy.begin_naming(found), what)
    order = np.argsort(np.argsort(copy.held_by(found), kind="stable"), kind="stable")
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)])[order]
    ids = pa.chunked_array([ids for _, ids in parts], pa.string()).take(order)
    return Answer(len(batch.vectors), results_table(batch.first, (scores, positions), rows, ids))


class _Waiting:
    """Waits for results of actors: Ctrl-C is noticed within a second, and so is that nothing moves any more."""

    def __init__(self, stall_timeout: float, stop_if_told: Callable[[], None]) -> None:
        self._stall_timeout = stall_timeout
        self._stop_if_told = stop_if_told

    def get(self, references: list[Any], what: str) -> list[Any]:
        began = time.monotonic()
        ready = 0
        while ready < len(references):
            self._stop_if_told()
            done = len(ray.wait(references, num_returns=len(references), timeout=_POLL_SECONDS)[0])
            if done > ready:
                ready, began = done, time.monotonic()
            if time.monotonic() - began > self._stall_timeout:
                raise RunFailed(
                    f"nothing moved for {self._stall_timeout:g} s while waiting for {what} ({describe_load()}); nothing was "
                    "written: give fewer --actors, or a larger --stall-timeout"
                )
        return list(ray.get(references))


def _copies(asked: BatchSearch, cluster: Cluster) -> list[_Copy]:
    """Actors enough for one copy of the index, or for several where there are more actors than shards."""
    shards = read_shards(storage.resolve(asked.index), asked.manifest.shards_sha256)
    starts = np.cumsum([0, *(shard.rows for shard in shards if shard.part == "index")])
    runs = [range(run.start, run.stop) for run in places(asked.manifest.shards, asked.actors)]
    copies = max(1, asked.actors // asked.manifest.shards)
    if cluster.own and copies * len(runs) > cluster.cpus:
        raise UserError(
            f"--actors {asked.actors}: each needs a core, and there are {cluster.cpus:g}; give fewer, or a larger cluster "
            "with --address"
        )
    threads = threads_each(copies * len(runs))
    held = ("index", "vectors") if asked.resident else ("index",)
    of_parts = [[shard.bytes for shard in shards if shard.part == part] for part in held]
    sizes = [sum(of_shard) for of_shard in zip(*filter(None, of_parts), strict=True)]
    memory = _memory([sum(sizes[run.start : run.stop]) for run in runs], copies, cluster)
    return [_Copy(asked, runs, [int(starts[run.start]) for run in runs], threads, memory) for _ in range(copies)]


def _memory(sizes: Sequence[int], copies: int, cluster: Cluster) -> list[int]:
    """What the actors that hold so many bytes of shards ask for, so that Ray does not put more of them on a node than it can
    hold. None asks for more than the largest node has; on a cluster of our own, all fit on its one node."""
    most = memory_of_a_node()
    if cluster.own:
        most //= max(1, copies * len(sizes))
    return [min(most, int(size * _HELD) + _PROCESS_BYTES) for size in sizes]


def _opening(copies: Sequence[_Copy], shards: int) -> str:
    times = f", {len(copies)} times" if len(copies) > 1 else ""
    return f"opening {shards} shards in {len(copies[0].actors)} actors{times}"
