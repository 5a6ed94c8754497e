"""How a finished unit is made durable: one file, atomically, that holds a table for each part and what was counted of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.stage.units.layout import AnySums, Layout
from clipmill.stage.units.sums import Sums

STATISTICS = "statistics"
"""The column of a packed unit that has what was counted of it."""


def pack_unit(tables: Mapping[str, pa.Table], sums: Sums) -> pa.Table:
    """A unit, a table for each part in their order, as one row: so that whatever cuts tables between two workers cannot cut a
    unit."""
    packed = {part: one_value(serialise(table)) for part, table in tables.items()}
    fields = [pa.field(part, pa.large_binary(), nullable=False) for part in packed]
    schema = pa.schema([*fields, pa.field(STATISTICS, pa.string(), nullable=False)])
    return pa.table([*packed.values(), pa.array([json.dumps(vars(sums))])], schema=schema)


def serialise(table: pa.Table) -> pa.Buffer:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def one_value(data: pa.Buffer) -> pa.Array:
    """A column of large binary with these bytes as its only value, which are not copied: they may be those of a thousand
    pictures."""
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def commit_unit(layout: Layout[AnySums], number: int, packed: pa.Table) -> None:
    """Makes a unit durable, whole or not at all. One whose shard was made already counts for nothing."""
    with storage.atomic_writer(layout.unit_file(number)) as stream, pa.ipc.new_file(stream, packed.schema) as writer:
        writer.write_table(packed)


def read_unit(layout: Layout[AnySums], number: int) -> tuple[dict[str, pa.Table], AnySums]:
    """The tables of a committed unit by part, and its sums: of one version of its file, read once."""
    location = layout.unit_file(number)
    with location.filesystem.open_input_file(location.path) as stream:
        packed = pa.ipc.open_file(stream).read_all()
    tables = {
        part.name: _with_columns(pa.ipc.open_stream(packed.column(part.name)[0].as_buffer()).read_all(), part.schema)
        for part in layout.parts
    }
    return tables, layout.sums.from_dict(json.loads(packed.column(STATISTICS)[0].as_py()))


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of a unit; one that an older version committed gets nulls in the columns that have come since."""
    for at, field in enumerate(schema):
        if field.name not in table.schema.names and field.nullable:
            table = table.add_column(at, field, pa.nulls(table.num_rows, field.type))
    return table


@dataclass(frozen=True)
class Finished:
    """What a staging folder holds already: shards that are done, and single units of the others."""

    shards: frozenset[int]
    units: frozenset[int]

    def mask(self, layout: Layout[AnySums]) -> NDArray[np.bool_]:
        """By unit, bool (units): whether it need not be made again."""
        shards = np.zeros(layout.shards, np.bool_)
        shards[list(self.shards)] = True
        units: NDArray[np.bool_] = np.repeat(shards, layout.units_per_shard)[: layout.units]
        units[list(self.units)] = True
        return units


def find_finished(layout: Layout[AnySums]) -> Finished:
    """What is done, from the names of files alone."""
    paths = [info.path[len(layout.staging.path) + 1 :] for info in storage.list_files(layout.staging)]
    shards = {int(_stem(path)) for path in paths if path.startswith("shards/") and path.endswith(".json")}
    units = {int(_stem(path)) for path in paths if path.startswith("units/") and path.endswith(".arrow")}
    return Finished(frozenset(shards), frozenset(units))


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]
