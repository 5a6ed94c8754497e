"""How a finished unit is made durable: one file, atomically, that holds its three tables and what was counted of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import IMAGE_SHA256
from clipmill.embedding.layout import PARTS, Layout
from clipmill.embedding.statistics import Statistics

if TYPE_CHECKING:
    from clipmill.embedding.unit import EmbeddedUnit

_UNIT_SCHEMA = pa.schema(
    [
        *(pa.field(part, pa.large_binary(), nullable=False) for part in PARTS),
        pa.field("statistics", pa.string(), nullable=False),
    ]
)


def pack_unit(unit: EmbeddedUnit, statistics: Statistics) -> pa.Table:
    """A unit as one row, so that whatever cuts tables between two workers cannot cut a unit."""
    columns = [one_value(serialise(getattr(unit, part))) for part in PARTS]
    return pa.table([*columns, pa.array([json.dumps(vars(statistics))])], schema=_UNIT_SCHEMA)


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


def commit_unit(layout: Layout, number: int, packed: pa.Table) -> None:
    """Makes a unit durable, whole or not at all. One whose shard was made already counts for nothing."""
    with storage.atomic_writer(layout.unit_file(number)) as stream, pa.ipc.new_file(stream, packed.schema) as writer:
        writer.write_table(packed)


def read_unit(layout: Layout, number: int) -> tuple[dict[str, pa.Table], Statistics]:
    """The tables of a committed unit by part, and its figures: of one version of its file, read once."""
    location = layout.unit_file(number)
    with location.filesystem.open_input_file(location.path) as stream:
        packed = pa.ipc.open_file(stream).read_all()
    tables = {part: pa.ipc.open_stream(packed.column(part)[0].as_buffer()).read_all() for part in PARTS}
    tables["images"] = _with_hashes(tables["images"], layout.schema("images"))
    return tables, Statistics.from_dict(json.loads(packed.column("statistics")[0].as_py()))


def _with_hashes(images: pa.Table, schema: pa.Schema) -> pa.Table:
    """The images of a unit; one that a version without `IMAGE_SHA256` committed gets the column with nulls."""
    if IMAGE_SHA256 not in images.schema.names:
        at = schema.get_field_index(IMAGE_SHA256)
        images = images.add_column(at, schema.field(at), pa.nulls(images.num_rows, schema.field(at).type))
    return images


@dataclass(frozen=True)
class Finished:
    """What a staging folder holds already: shards that are done, and single units of the others."""

    shards: frozenset[int]
    units: frozenset[int]

    def mask(self, layout: Layout) -> NDArray[np.bool_]:
        """By unit, bool (units): whether it need not be made again."""
        shards = np.zeros(layout.shards, np.bool_)
        shards[list(self.shards)] = True
        units: NDArray[np.bool_] = np.repeat(shards, layout.units_per_shard)[: layout.units]
        units[list(self.units)] = True
        return units


def find_finished(layout: Layout) -> Finished:
    """What is done, from the names of files alone."""
    paths = [info.path[len(layout.staging.path) + 1 :] for info in storage.list_files(layout.staging)]
    shards = {int(_stem(path)) for path in paths if path.startswith("shards/") and path.endswith(".json")}
    units = {int(_stem(path)) for path in paths if path.startswith("units/") and path.endswith(".arrow")}
    return Finished(frozenset(shards), frozenset(units))


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]
