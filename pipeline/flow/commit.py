"""How finished units become a dataset: one atomic file a unit, compacted into shards as they fill, then published.

A unit's file and a shard's files are named after the plan, so that doing either again overwrites the same names with
the same content: a retried task cannot produce a row twice. Only the driver starts the making of a shard, one task each.

    STAGING/TOKEN/plan.json                    what this run makes; TOKEN follows from it, so plans cannot mix
    STAGING/TOKEN/units/00007/000000123.arrow  a unit that is done, waiting for the others of its shard
    STAGING/TOKEN/shards/00007.json            a shard that is done: its files, counts and timings
    STAGING/TOKEN/dataset/                     what will be published
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import storage
from pipeline.datasets import Shard, describe_shard, part_writer
from pipeline.schemas import REJECTED, captions_schema, images_schema
from pipeline.storage import Location

if TYPE_CHECKING:
    from pipeline.flow.work import EmbeddedUnit

Number = TypeVar("Number", int, NDArray[np.int64])
_READ_THREADS = 16
PARTS = ("images", "captions", "rejected")
_ROW_GROUP_ROWS = 8192
_UNIT_SCHEMA = pa.schema(
    [
        *(pa.field(part, pa.large_binary(), nullable=False) for part in PARTS),
        pa.field("statistics", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Layout:
    """The names of one embed run: ``units_per_shard`` consecutive units make a shard.

    ``staging`` is this plan's own folder. ``token`` is part of every part file's name, so that two datasets never share
    one.
    """

    staging: Location
    token: str
    units: int
    units_per_shard: int
    dimension: int
    kept: tuple[pa.Field, ...] = ()
    thumbnails: bool = False

    @property
    def shards(self) -> int:
        return max(1, -(-self.units // self.units_per_shard))

    @property
    def dataset(self) -> Location:
        return self.staging / "dataset"

    def shard_of(self, unit: Number) -> Number:
        """The shard that a unit belongs to, or those of an array of units."""
        return unit // self.units_per_shard

    def units_of(self, shard: int) -> range:
        """The units that make up a shard."""
        first = shard * self.units_per_shard
        return range(first, min(first + self.units_per_shard, self.units))

    def unit_folder(self, shard: int) -> Location:
        return self.staging / f"units/{shard:05d}"

    def unit_file(self, unit: int) -> Location:
        return self.unit_folder(self.shard_of(unit)) / f"{unit:09d}.arrow"

    def shard_record(self, shard: int) -> Location:
        return self.staging / f"shards/{shard:05d}.json"

    def part_path(self, part: str, shard: int) -> str:
        """A published file, relative to the dataset."""
        return f"{part}/part-{shard:05d}-{self.token}.parquet"

    def schema(self, part: str) -> pa.Schema:
        """The schema of one part of this dataset."""
        if part == "images":
            return images_schema(self.dimension, self.kept, thumbnails=self.thumbnails)
        return captions_schema(self.dimension) if part == "captions" else REJECTED


@dataclass
class Statistics:
    """What was counted and timed over some units; sums of them are of the same kind."""

    rows: int = 0
    images: int = 0
    captions: int = 0
    rejected_images: int = 0
    rejected_captions: int = 0
    without_image_column: int = 0
    encoded_with: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    captions_by_file: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Statistics) -> None:
        """Adds another sum to this one."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    @staticmethod
    def of(unit: EmbeddedUnit, rows: int) -> Statistics:
        """The figures of one unit of ``rows`` input rows."""
        kinds = Counter(unit.rejected.column("kind").to_pylist())
        return Statistics(
            rows=rows,
            images=unit.images.num_rows,
            captions=unit.captions.num_rows,
            rejected_images=kinds["image"],
            rejected_captions=kinds["caption"],
            without_image_column=rows - unit.images.num_rows - kinds["image"],
            reasons=unit.reasons,
            captions_by_file=Counter({str(ordinal): count for ordinal, count in unit.captions_by_file.items()}),
            seconds=Counter(unit.seconds),
        )

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Statistics:
        """From what `vars` of one gave, after a way through JSON."""
        counted: dict[str, Any] = {
            key: Counter(value) if isinstance(value, dict) else value for key, value in values.items()
        }
        return Statistics(**counted)


def pack_unit(unit: EmbeddedUnit, statistics: Statistics) -> pa.Table:
    """A unit as one row, so that whatever cuts tables between two workers cannot cut a unit."""
    columns = [pa.array([serialise(getattr(unit, part))], pa.large_binary()) for part in PARTS]
    return pa.table([*columns, pa.array([json.dumps(vars(statistics))])], schema=_UNIT_SCHEMA)


def serialise(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def commit_unit(layout: Layout, number: int, packed: pa.Table) -> None:
    """Makes a unit durable, whole or not at all. A unit whose shard was made already is left alone."""
    if storage.is_file(layout.shard_record(layout.shard_of(number))):
        return
    with storage.atomic_writer(layout.unit_file(number)) as stream, pa.ipc.new_file(stream, packed.schema) as writer:
        writer.write_table(packed)


def compact_shard(layout: Layout, shard: int) -> float:
    """The shard's units, in order, as one file a part; then its record, which makes it done; then the units go.

    Returns the seconds that it took. Memory holds one row group of a part.
    """
    started = time.perf_counter()
    if not storage.is_file(layout.shard_record(shard)):
        _make_shard(layout, shard)
    storage.remove(layout.unit_folder(shard))
    return time.perf_counter() - started


def _make_shard(layout: Layout, shard: int) -> None:
    total = Statistics()
    for statistics in _unit_statistics(layout, shard):
        total.add(statistics)
    entries = [
        entry
        for part in PARTS
        if (entry := _write_part(layout, shard, part, _unit_tables(layout, shard, part))) is not None
    ]
    record = {"statistics": vars(total), "shards": [vars(entry) for entry in entries]}
    storage.write_bytes(layout.shard_record(shard), json.dumps(record).encode())


def _read_unit(layout: Layout, number: int, column: str) -> pa.Scalar:
    location = layout.unit_file(number)
    options = pa.ipc.IpcReadOptions(included_fields=[_UNIT_SCHEMA.get_field_index(column)])
    with location.filesystem.open_input_file(location.path) as stream:
        return pa.ipc.open_file(stream, options=options).read_all().column(column)[0]


def _unit_statistics(layout: Layout, shard: int) -> Iterable[Statistics]:
    for number in layout.units_of(shard):
        yield Statistics.from_dict(json.loads(_read_unit(layout, number, "statistics").as_py()))


def _unit_tables(layout: Layout, shard: int, part: str) -> Iterable[pa.Table]:
    for number in layout.units_of(shard):
        yield pa.ipc.open_stream(_read_unit(layout, number, part).as_buffer()).read_all()


def _write_part(layout: Layout, shard: int, part: str, tables: Iterable[pa.Table]) -> Shard | None:
    """One published file, or None where it would be empty. The first shard always has all parts: they tell the schema."""
    schema = layout.schema(part)
    path = layout.part_path(part, shard)
    rows, first, last = 0, None, None
    with storage.atomic_writer(layout.dataset / path) as stream, part_writer(stream, schema) as writer:
        for group in regroup(tables, schema, _ROW_GROUP_ROWS):
            writer.write_table(group, row_group_size=_ROW_GROUP_ROWS)
            first = group.column("row")[0].as_py() if first is None else first
            last = group.column("row")[-1].as_py()
            rows += group.num_rows
    if rows == 0 and shard > 0:
        storage.remove(layout.dataset / path)
        return None
    return describe_shard(layout.dataset, path, part, rows, first, last, stream.written)


def regroup(tables: Iterable[pa.Table], schema: pa.Schema, rows: int) -> Iterable[pa.Table]:
    """The same rows in tables of exactly ``rows`` rows, but for the last."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        while count >= rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows)
            waiting, count = [joined.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(waiting)


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
    shards = {
        int(_stem(info.path)) for info in storage.list_files(layout.staging / "shards") if info.path.endswith(".json")
    }
    units = {
        int(_stem(info.path)) for info in storage.list_files(layout.staging / "units") if info.path.endswith(".arrow")
    }
    return Finished(frozenset(shards), frozenset(units))


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]


def shards_to_make(layout: Layout) -> list[int]:
    """The shards that are not made yet but whose units are all there."""
    finished = find_finished(layout)
    open_shards = (shard for shard in range(layout.shards) if shard not in finished.shards)
    return [shard for shard in open_shards if finished.units.issuperset(layout.units_of(shard))]


def gather_records(layout: Layout) -> tuple[list[Shard], Statistics]:
    """Files and figures of all shards, in order."""
    entries: list[Shard] = []
    total = Statistics()
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        records = pool.map(storage.read_bytes, map(layout.shard_record, range(layout.shards)))
    for record in map(json.loads, records):
        entries.extend(Shard(**entry) for entry in record["shards"])
        total.add(Statistics.from_dict(record["statistics"]))
    entries.sort(key=lambda entry: (PARTS.index(entry.part), entry.path))
    return entries, total
