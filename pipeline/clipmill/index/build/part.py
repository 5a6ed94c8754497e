"""A part of an index that is too large for one process: some of its shards, which answer for their run of positions."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.index.search.exact import TopK
from clipmill.index.search.rows import RowTable
from clipmill.index.search.search import Effort, ShardedIndex
from clipmill.index.search.selection import Selection


@dataclass(frozen=True)
class IndexPart:
    """Consecutive shards of an index, the first of whose positions is ``start``. Positions given and returned are those
    of the whole index."""

    sharded: ShardedIndex
    table: RowTable
    start: int

    def found(self, queries: NDArray[np.float32], k: int, effort: Effort, selection: Selection | None) -> TopK:
        """As `ShardedIndex.found`. ``selection`` is of this part."""
        scores, positions = self.sharded.found(queries, k, effort, selection)
        return scores, np.where(positions >= 0, positions + self.start, -1)

    def names(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], pa.Array]:
        """The row and the id of each of ``positions`` (n,), all of them in this part."""
        local = positions - self.start
        ids = self.table.fetch(local, ["id"]).column("id")
        return self.sharded.rows_at(local), ids.combine_chunks()
