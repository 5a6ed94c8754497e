"""Searching an index: its shards opened after checking that they belong together, searched, merged and re-ranked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.index.exact import TopK, best_of, cut, empty_top_k, exact_top_k, padded
from pipeline.index.rerank import StoredVectors
from pipeline.index.rows import RowTable
from pipeline.index.selection import Selection, search_parameters, select, selects
from pipeline.schemas import IndexManifest

MAX_RESULTS = 100_000
"""Results that can be asked for of one query."""
SCORED_ROWS = 20_000
"""Of a selection of so few rows each is scored exactly: within milliseconds, and none can be missed."""
_QUERY_BLOCK = 1024
_SCORED_BLOCK = 16_384


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

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int, rerank: int, selection: Selection | None = None
    ) -> TopK:
        """The best ``k`` rows of each query: scores (q, k) float32, best first, and positions (q, k) int64.

        ``nprobe`` lists are searched (where the index has lists); the best ``rerank`` by approximate score are scored
        exactly, and 0 leaves the approximate scores. Fewer than ``k`` rows found: −inf and −1 at the end. Threads are
        those of FAISS.

        With a ``selection`` only its rows are found. Few of them are all scored exactly; else lists are searched in
        inverse proportion to the share of rows selected, so that as many are seen as without it.

        Raises UserError when the queries are not (q, d) of this index or not finite, or when ``k`` is
        not from 1 to MAX_RESULTS.
        """
        if not 1 <= k <= MAX_RESULTS:
            raise UserError(f"{k} results of one query were asked for; ask for 1 to {MAX_RESULTS}")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise UserError(
                f"queries of shape {queries.shape} were given to an index of {self.dimension} dimensions; they must be "
                f"(number, {self.dimension}), made by the model that made the index"
            )
        if not np.isfinite(queries).all():
            raise UserError("a query vector holds NaN or infinity")
        if selection is not None:
            if selection.count <= SCORED_ROWS or not all(selects(shard) for shard in self.shards):
                return self._score_selected(queries, k, selection)
            nprobe = -(-max(nprobe, 1) * self.n // selection.count)
        blocks = [
            self._search_block(queries[start : start + _QUERY_BLOCK], k, nprobe, rerank, selection)
            for start in range(0, len(queries), _QUERY_BLOCK)
        ]
        if not blocks:
            return empty_top_k(0, k)
        return np.concatenate([scores for scores, _ in blocks]), np.concatenate([found for _, found in blocks])

    def _score_selected(self, queries: NDArray[np.float32], k: int, selection: Selection) -> TopK:
        positions = selection.positions
        starts = range(0, len(positions), _SCORED_BLOCK)
        blocks = ((start, self.vectors.gather(positions[start : start + _SCORED_BLOCK])) for start in starts)
        scores, found = exact_top_k(queries, blocks, k)
        return scores, np.where(found >= 0, positions[found] if len(positions) else -1, -1)

    def _search_block(
        self, queries: NDArray[np.float32], k: int, nprobe: int, rerank: int, selection: Selection | None
    ) -> TopK:
        depth = min(max(k, rerank), self.n)
        found_by_shard = []
        for number, (shard, start) in enumerate(zip(self.shards, self.vectors.starts, strict=False)):
            bits = None if selection is None else selection.bits[number]
            parameters = search_parameters(shard, nprobe, bits)
            scores, found = shard.search(queries, min(depth, shard.ntotal), params=parameters)
            found_by_shard.append((np.where(found >= 0, scores, -np.inf), np.where(found >= 0, found + start, -1)))
        scores = np.concatenate([scores for scores, _ in found_by_shard], axis=1)
        found = np.concatenate([found for _, found in found_by_shard], axis=1)
        if rerank:
            scores, found = cut(scores, found, depth)
            scores = self.vectors.scores(queries, found)
        return padded(*best_of(scores, found, k), k)


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
        nprobe: int | None = None,
        rerank: int | None = None,
        selection: Selection | None = None,
    ) -> TopK:
        """As `ShardedIndex.search`, at the tuned operating point unless told otherwise."""
        point = self.manifest.operating_point
        return self.sharded.search(
            queries,
            k,
            nprobe=point.nprobe if nprobe is None else nprobe,
            rerank=point.rerank if rerank is None else rerank,
            selection=selection,
        )

    def search_like(self, position: int, k: int, *, selection: Selection | None = None) -> TopK:
        """The row at ``position`` first, then the best others for its vector: scores (1, k) and positions (1, k).

        Its own score is as exact as any, but the search may miss it, or find rows of the same vector before it. It is
        not among the results where a ``selection`` leaves it out.
        """
        query = self.vectors_at(np.array([position]))
        scores, positions = self.search(query, k, selection=selection)
        if selection is not None and not selection.holds(position):
            return scores, positions
        own = np.array([[position]])
        others = np.flatnonzero(positions[0] != position)[: k - 1]
        return (
            np.concatenate([self.sharded.vectors.scores(query, own), scores[:, others]], axis=1),
            np.concatenate([own, positions[:, others]], axis=1),
        )

    def rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ``row`` of each position, in the shape of ``positions``; −1 where the position is −1."""
        flat = np.maximum(positions, 0).reshape(-1)
        shards = np.searchsorted(self.sharded.vectors.starts, flat, side="right") - 1
        rows = np.empty(len(flat), np.int64)
        for shard in np.unique(shards):
            inside = shards == shard
            rows[inside] = self.sharded.rows[shard][flat[inside] - self.sharded.vectors.starts[shard]]
        return np.where(positions >= 0, rows.reshape(positions.shape), -1)

    def vectors_at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The stored vectors (n, d) of ``positions`` (n,), as queries."""
        return self.sharded.vectors.gather(positions).astype(np.float32)
