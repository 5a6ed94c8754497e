"""Searching an index: its shards opened after checking that they belong together, searched, merged and re-ranked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.manifests import IndexManifest
from clipmill.index.search.exact import TopK, best_of_all, exact_top_k, ordered, padded, stacked
from clipmill.index.search.limits import MAX_RESULTS
from clipmill.index.search.refined import Refined
from clipmill.index.search.rerank import StoredVectors
from clipmill.index.search.rows import RowTable
from clipmill.index.search.selection import Selection, search_parameters, select, selects

SCORED_ROWS = 20_000
"""Of a selection of so few rows each is scored exactly: within milliseconds, and none can be missed."""
QUERY_BLOCK = 1024
_EVERY_LIST = 1 << 30
_SCORED_BLOCK = 16_384


@dataclass(frozen=True)
class Effort:
    """How far a search looks: every selected row scored exactly where ``scored``, else ``nprobe`` lists, of which, where
    ``reranked``, the ``depth`` best rows of each shard by approximate score are scored exactly."""

    nprobe: int
    depth: int
    reranked: bool
    scored: bool = False


def effort_for(
    k: int, nprobe: int, rerank: int, n: int, selected: int | None = None, *, selects: bool = True, stored: bool = True
) -> Effort:
    """The effort for ``k`` results from ``n`` rows of which ``selected`` may be returned (None: all).

    Few selected rows are all scored exactly, as they are where not every shard ``selects``; else lists are searched in
    inverse proportion to the share of rows selected, so that as many rows are seen as without a selection. Where no vectors are
    ``stored``, few rows are looked for in every list by code.

    Raises UserError for a selection from an index that can neither leave rows out nor score them.
    """
    if selected is None:
        return Effort(nprobe, min(max(k, rerank), n), rerank > 0)
    if not stored and not selects:
        raise UserError(
            "an index of this kind leaves no rows out while it is searched, and without stored vectors cannot score those that "
            "meet a condition; build it without --factory, or with --rerank-vectors float16"
        )
    if not stored and selected <= SCORED_ROWS:
        return Effort(_EVERY_LIST, k, reranked=False)
    if selected <= SCORED_ROWS or not selects:
        return Effort(0, k, reranked=False, scored=True)
    return Effort(-(-max(nprobe, 1) * n // selected), min(max(k, rerank), n), rerank > 0)


def checked_queries(queries: NDArray[np.float32], k: int, dimension: int) -> NDArray[np.float32]:
    """The queries as FAISS takes them. Raises UserError when they are not (q, ``dimension``) or not finite, or when ``k``
    is not from 1 to MAX_RESULTS."""
    if not 1 <= k <= MAX_RESULTS:
        raise UserError(f"{k} results of one query were asked for; ask for 1 to {MAX_RESULTS}")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(
            f"queries of shape {queries.shape} were given to an index of {dimension} dimensions; they must be "
            f"(number, {dimension}), made by the model that made the index"
        )
    if not np.isfinite(queries).all():
        raise UserError("a query vector holds NaN or infinity")
    return queries


@dataclass(frozen=True)
class ShardedIndex:
    """FAISS shards over one run of positions each, and the files beside them.

    ``trained`` holds the coarse centroids that all shards use, so it must live as long as they do.
    ``shards[i]`` knows its vectors by their number in the shard; ``vectors.starts[i]`` makes positions of these.
    """

    trained: Any
    shards: Sequence[Any]
    vectors: StoredVectors
    rows: Sequence[NDArray[np.int64]]

    @property
    def n(self) -> int:
        return int(self.vectors.starts[-1])

    @property
    def dimension(self) -> int:
        return self.vectors.dimension

    @cached_property
    def selects(self) -> bool:
        """Whether every shard can leave rows out while it is searched."""
        return all(selects(shard) for shard in self.shards)

    @cached_property
    def _refined(self) -> list[Refined]:
        pairs = zip(self.shards, self.vectors.shards, strict=True)
        return [Refined(shard, vectors, self.vectors.coding) for shard, vectors in pairs]

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int, rerank: int, selection: Selection | None = None
    ) -> TopK:
        """The best ``k`` rows of each query: scores (q, k) float32, best first, and positions (q, k) int64.

        ``nprobe`` lists are searched (where the index has lists); the best ``rerank`` by approximate score are scored with
        stored vectors, exactly where these are as embedded, and 0 leaves the approximate scores. Fewer than ``k`` rows found:
        −inf and −1 at the end. Threads are those of FAISS. With a ``selection`` only its rows are found (see `effort_for`).

        Raises UserError as `checked_queries` does.
        """
        queries = checked_queries(queries, k, self.dimension)
        selected, stored = None if selection is None else selection.count, self.vectors.are_there
        effort = effort_for(k, nprobe, rerank * stored, self.n, selected, selects=self.selects, stored=stored)
        return self.found(queries, k, effort, selection)

    def found(self, queries: NDArray[np.float32], k: int, effort: Effort, selection: Selection | None) -> TopK:
        """As `search`, for queries that have been checked. The best of several parts of an index are the best of the whole."""
        starts = range(0, len(queries), QUERY_BLOCK)
        blocks = [self._found(queries[start : start + QUERY_BLOCK], k, effort, selection) for start in starts]
        if len(blocks) == 1:
            return blocks[0]
        return stacked(blocks, k)

    def _found(self, queries: NDArray[np.float32], k: int, effort: Effort, selection: Selection | None) -> TopK:
        if effort.scored:
            assert selection is not None
            return padded(*self._score_selected(queries, k, selection), k)
        of_shards = [self._of_shard(number, queries, k, effort, selection) for number in range(len(self.shards))]
        return of_shards[0] if len(of_shards) == 1 else best_of_all(of_shards, k)

    def _of_shard(
        self, number: int, queries: NDArray[np.float32], k: int, effort: Effort, selection: Selection | None
    ) -> TopK:
        shard, start = self.shards[number], self.vectors.starts[number]
        bits = None if selection is None else selection.bits[number]
        if effort.reranked:
            depth = min(effort.depth, shard.ntotal)
            scores, found = self._refined[number].search(queries, min(k, depth), effort.nprobe, depth, bits)
        else:
            parameters = search_parameters(shard, effort.nprobe, bits)
            scores, found = ordered(*shard.search(queries, min(k, shard.ntotal), params=parameters))
        if start:
            found = np.where(found >= 0, found + start, -1)
        return padded(scores, found, k)

    def by_code(self, queries: NDArray[np.float32], nprobe: int, depth: int) -> list[NDArray[np.int64]]:
        """Of each shard the ``depth`` best by approximate score, as many as it has: positions (q, depth), −1 where there are
        fewer in ``nprobe`` lists."""
        effort = Effort(nprobe, depth, reranked=False)
        depths = [min(depth, shard.ntotal) for shard in self.shards]
        return [self._of_shard(number, queries, deep, effort, None)[1] for number, deep in enumerate(depths)]

    def rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ``row`` of each position, in the shape of ``positions``; −1 where the position is −1."""
        flat = np.maximum(positions, 0).reshape(-1)
        shards = np.searchsorted(self.vectors.starts, flat, side="right") - 1
        rows = np.empty(len(flat), np.int64)
        for shard in np.unique(shards):
            inside = shards == shard
            rows[inside] = self.rows[shard][flat[inside] - self.vectors.starts[shard]]
        return np.where(positions >= 0, rows.reshape(positions.shape), -1)

    def _score_selected(self, queries: NDArray[np.float32], k: int, selection: Selection) -> TopK:
        positions = selection.positions
        starts = range(0, len(positions), _SCORED_BLOCK)
        blocks = ((start, self.vectors.gather(positions[start : start + _SCORED_BLOCK])) for start in starts)
        scores, found = exact_top_k(queries, blocks, k)
        return scores, np.where(found >= 0, positions[found] if len(positions) else -1, -1)


@dataclass(frozen=True)
class Index:
    """A published index, open for search."""

    manifest: IndexManifest
    sharded: ShardedIndex
    table: RowTable

    @property
    def n(self) -> int:
        return self.sharded.n

    @property
    def dimension(self) -> int:
        return self.sharded.dimension

    def select(self, where: str) -> Selection:
        """The rows that meet a condition on the columns of the index. Raises UserError where it is none."""
        return select(self.table, where)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        alike: str | None = None,
        nprobe: int | None = None,
        rerank: int | None = None,
        selection: Selection | None = None,
    ) -> TopK:
        """As `ShardedIndex.search`, at the operating point tuned for so many results of queries that are like that part of a
        dataset (captions, images; None: not known), unless told otherwise."""
        tuned_nprobe, tuned_rerank = self.manifest.promise_for(alike, k).at(k)
        return self.sharded.search(
            queries,
            k,
            nprobe=tuned_nprobe if nprobe is None else nprobe,
            rerank=tuned_rerank if rerank is None else rerank,
            selection=selection,
        )

    def search_like(self, position: int, k: int, *, selection: Selection | None = None) -> TopK:
        """The row at ``position`` first, then the best others for its vector: scores (1, k) and positions (1, k).

        Its own score is as exact as any, but the search may miss it, or find rows of the same vector before it. It is
        not among the results where a ``selection`` leaves it out.
        """
        query = self.vectors_at(np.array([position]))
        scores, positions = self.search(query, k, alike=self.manifest.gallery, selection=selection)
        if selection is not None and not selection.holds(position):
            return scores, positions
        own = np.array([[position]])
        others = np.flatnonzero(positions[0] != position)[: k - 1]
        return (
            np.concatenate([self.sharded.vectors.scores(query, own), scores[:, others]], axis=1),
            np.concatenate([own, positions[:, others]], axis=1),
        )

    def rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `ShardedIndex.rows_at`."""
        return self.sharded.rows_at(positions)

    def vectors_at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The stored vectors (n, d) of ``positions`` (n,), as queries. Raises UserError where none are stored."""
        return self.sharded.vectors.gather(positions)
