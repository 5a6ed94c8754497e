"""From positions to what the user knows: rows, ids and the columns kept from the source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray


@dataclass(frozen=True)
class RowTable:
    """The ``rows-*.parquet`` files of an index; ``starts`` are their first positions, and n at the end."""

    paths: Sequence[Path]
    starts: NDArray[np.int64]

    @cached_property
    def _files(self) -> list[pq.ParquetFile]:
        return [pq.ParquetFile(path) for path in self.paths]

    @cached_property
    def _group_starts(self) -> list[NDArray[np.int64]]:
        return [
            np.cumsum([0, *(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))])
            for file in self._files
        ]

    @property
    def schema(self) -> pa.Schema:
        return self._files[0].schema_arrow

    @property
    def columns(self) -> list[str]:
        return list(self.schema.names)

    def batches(self, shard: int, columns: Sequence[str], batch_rows: int) -> Iterator[pa.Table]:
        """The rows of one shard in order, some columns, at most ``batch_rows`` at a time."""
        for batch in self._files[shard].iter_batches(batch_rows, columns=list(columns)):
            yield pa.Table.from_batches([batch])

    def fetch(self, positions: NDArray[np.int64], columns: Sequence[str] | None = None) -> pa.Table:
        """One row for each of ``positions`` (n,), in their order; reads only the row groups that hold them."""
        wanted = list(columns) if columns is not None else self.columns
        unique, inverse = np.unique(positions, return_inverse=True)
        shards = np.searchsorted(self.starts, unique, side="right") - 1
        found = [self.schema.empty_table().select(wanted)]
        for shard in np.unique(shards):
            local = unique[shards == shard] - self.starts[shard]
            bounds = self._group_starts[shard]
            groups = np.searchsorted(bounds, local, side="right") - 1
            read = np.unique(groups)
            table = self._files[shard].read_row_groups(read.tolist(), columns=wanted)
            lengths = bounds[read + 1] - bounds[read]
            before = dict(zip(read.tolist(), (np.cumsum(lengths) - lengths).tolist(), strict=True))
            rows = [before[group] + position - bounds[group] for group, position in zip(groups, local, strict=True)]
            found.append(table.select(wanted).take(rows))
        return pa.concat_tables(found).take(inverse.reshape(-1))

    def positions_of_id(self, identifier: str) -> NDArray[np.int64]:
        """Every position whose row has this id, in order; ids need not be unique. Reads the id columns alone."""
        found = [np.empty(0, np.int64)]
        for start, bounds, file in zip(self.starts, self._group_starts, self._files, strict=False):
            for group in range(file.num_row_groups):
                if _may_hold(file, group, identifier):
                    ids = file.read_row_group(group, columns=["id"]).column("id")
                    inside = pc.indices_nonzero(pc.equal(ids, identifier)).to_numpy()
                    found.append(inside.astype(np.int64) + bounds[group] + start)
        return np.concatenate(found)


def _may_hold(file: pq.ParquetFile, group: int, identifier: str) -> bool:
    column = file.schema_arrow.get_field_index("id")
    statistics = file.metadata.row_group(group).column(column).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= identifier <= statistics.max)
