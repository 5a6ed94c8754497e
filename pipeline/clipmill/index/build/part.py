"""A part of an index that is too large for one process: some of its shards, which answer for their run of positions."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.index.search.rows import RowTable
from clipmill.index.search.search import QUERY_BLOCK, Candidates, Effort, ShardedIndex
from clipmill.index.search.selection import Selection


@dataclass(frozen=True)
class IndexPart:
    """Consecutive shards of an index, the first of whose positions is ``start``. Positions given and returned are those
    of the whole index."""

    sharded: ShardedIndex
    table: RowTable
    start: int

    def candidates(self, queries: NDArray[np.float32], effort: Effort, selection: Selection | None) -> Candidates:
        """As `ShardedIndex.candidates`, for any number of queries (q, d). ``selection`` is of this part."""
        blocks = [
            self.sharded.candidates(queries[start : start + QUERY_BLOCK], effort, selection)
            for start in range(0, len(queries), QUERY_BLOCK)
        ]
        found = Candidates(
            np.concatenate([block.approximate for block in blocks]),
            np.concatenate([block.exact for block in blocks]),
            np.concatenate([block.positions for block in blocks]),
        )
        return replace(found, positions=np.where(found.positions >= 0, found.positions + self.start, -1))

    def names(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], pa.Array]:
        """The row and the id of each of ``positions`` (n,), all of them in this part."""
        local = positions - self.start
        ids = self.table.fetch(local, ["id"]).column("id")
        return self.sharded.rows_at(local), ids.combine_chunks()
