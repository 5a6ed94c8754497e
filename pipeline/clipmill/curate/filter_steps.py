"""Filtering one strip of rows: each is kept, or dropped with all the reasons there are. In one pass, in order.

A strip leaves a file of what is kept of it and one of what is dropped, and does nothing where it is done.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.curate.captions import CaptionsByRow
from clipmill.curate.filter import DROPPED, KEPT, Filter
from clipmill.curate.prompts import Prompt
from clipmill.curate.published import GROUPS_FILE
from clipmill.datasets.manifests import vectors_of
from clipmill.datasets.shards import Shard, describe_shard
from clipmill.index.build.layout import ShardRange
from clipmill.stage.checkpoints import load, save
from clipmill.stage.pieces import Alive, no_heartbeat
from clipmill.storage import Location

_BATCH_ROWS = 16_384
Condition = tuple[str, Callable[[pa.Table], NDArray[np.bool_]]]
"""A reason to drop a row, and which rows of a batch do not have it."""


@dataclass(frozen=True)
class Sifted:
    """What became of the rows of a strip: its files, and how many rows have each reason."""

    files: list[Shard]
    by_reason: dict[str, int]


@dataclass(frozen=True)
class Common:
    """What all strips are judged by: unit ``vectors`` (prompts, d) of the prompts, and the rows that are ``duplicates`` of
    others, int64 in rising order; None where there are none."""

    vectors: NDArray[np.float32] | None
    duplicates: NDArray[np.int64] | None


def filter_strip(filter_: Filter, common: Common, strip: ShardRange, alive: Alive = no_heartbeat) -> Sifted:
    """Filters the rows of a strip. Memory holds a batch of rows, and the captions of one."""
    place = filter_.strip(strip)
    found = load(place, Sifted)
    if found is not None:
        return found
    rows = _rows_of(filter_, strip)
    alive()
    conditions = _conditions(filter_, common, rows)
    by_reason = dict.fromkeys((reason for reason, _ in conditions), 0)
    parts = [_Part(filter_, name, strip.number) for name in (KEPT, DROPPED)]
    with ExitStack() as stack:
        kept, dropped = (stack.enter_context(part) for part in parts)
        for table, why in _judged(filter_, strip, int(rows[0]), conditions, common.vectors):
            for row_reasons in why:
                for reason in row_reasons:
                    by_reason[reason] += 1
            fails = pa.array([bool(reasons) for reasons in why], pa.bool_())
            kept.write(table.filter(pc.invert(fails)))
            dropped.write(table.append_column("why", pa.array(why, pa.list_(pa.string()))).filter(fails))
            alive()
    sifted = Sifted([part.file for part in parts if part.file is not None], by_reason)
    save(place, sifted)
    return sifted


def _rows_of(filter_: Filter, strip: ShardRange) -> NDArray[np.int64]:
    batches = filter_.gallery.batches(strip.start, strip.stop, ["row"], strip.rows)
    return np.concatenate([batch.column("row").to_numpy() for batch in batches])


def _conditions(filter_: Filter, common: Common, rows: NDArray[np.int64]) -> list[Condition]:
    """The conditions on ``rows``, which are in rising order."""
    conditions: list[Condition] = []
    least = filter_.settings.min_clip_score
    if least is not None:
        bound = np.float32(least)
        conditions.append((f"clip_score below {least:g}", lambda table: _floats(table, "clip_score") >= bound))
    for number, prompt in enumerate(filter_.prompts, start=1):
        if prompt.sign is not None:
            conditions.append((prompt.reason, _bounded(prompt, f"cosine_{number}")))
    if common.duplicates is not None:
        first, after = np.searchsorted(common.duplicates, [rows[0], rows[-1] + 1])
        duplicates = common.duplicates[first:after]
        conditions.append(("duplicate", lambda table: ~np.isin(table.column("row").to_numpy(), duplicates)))
    if filter_.where is not None:
        where = filter_.where
        conditions.append((f"not where {where.text}", where.mask))
    return conditions


def _bounded(prompt: Prompt, column: str) -> Callable[[pa.Table], NDArray[np.bool_]]:
    return lambda table: prompt.keeps(_floats(table, column))


def _floats(table: pa.Table, column: str) -> NDArray[np.float32]:
    """A column in which nothing reaches nothing: null is NaN, which no bound keeps."""
    values: NDArray[np.float32] = table.column(column).to_numpy(zero_copy_only=False)
    return values.astype(np.float32)


def rows_to_drop(duplicates: Location) -> NDArray[np.int64]:
    """The rows that are duplicates of others, in rising order; the groups are read in batches."""
    groups = duplicates / GROUPS_FILE
    found = [np.empty(0, np.int64)]
    with groups.filesystem.open_input_file(groups.path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=["row", "kept"]):
            rows = batch.column("row").to_numpy()
            dropped = ~batch.column("kept").to_numpy(zero_copy_only=False)
            found.append(rows[dropped])
    return np.sort(np.concatenate(found))


def _judged(
    filter_: Filter,
    strip: ShardRange,
    first_row: int,
    conditions: list[Condition],
    vectors: NDArray[np.float32] | None,
) -> Iterator[tuple[pa.Table, list[list[str]]]]:
    """Batches of rows with the columns of what is kept, and for each row the reasons to drop it."""
    gallery = filter_.gallery
    captions = CaptionsByRow(gallery.dataset, first_row)
    columns = ["row", "id", "width", "height", *gallery.kept_columns]
    read = [*columns, *(["embedding"] if vectors is not None else [])]
    for batch in gallery.batches(strip.start, strip.stop, read, _BATCH_ROWS):
        rows = batch.column("row").to_numpy()
        values = dict(zip(columns, (batch.column(name) for name in columns), strict=True))
        values["captions"], values["clip_score"] = captions.of(rows)
        if vectors is not None:
            cosines = vectors_of(batch.column("embedding")).astype(np.float32) @ vectors.T
            values |= {f"cosine_{number}": pa.array(column) for number, column in enumerate(cosines.T, start=1)}
        table = pa.table(list(values.values()), schema=filter_.schema)
        keeps = [(reason, condition(table)) for reason, condition in conditions]
        yield table, [[reason for reason, kept in keeps if not kept[row]] for row in range(table.num_rows)]


@dataclass
class _Part:
    """The file of one part of a strip. It is there only where it has rows, but for the first strip's: so that the columns of
    a part are known that has none at all. ``file`` tells of it once it is closed."""

    filter_: Filter
    name: str
    number: int
    file: Shard | None = None
    _ends: list[int] = field(default_factory=list)
    _rows: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)
    _writer: Any = None
    _stream: Any = None

    def __enter__(self) -> "_Part":
        if self.number == 0:
            self._open()
        return self

    def write(self, table: pa.Table) -> None:
        """Adds rows, which come in order."""
        if not table.num_rows:
            return
        if self._writer is None:
            self._open()
        self._writer.write_table(table.cast(self.filter_.schema_of(self.name)))
        rows = table.column("row")
        self._ends += [rows[0].as_py(), rows[-1].as_py()]
        self._rows += table.num_rows

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None and self._writer is not None:
            first, last = (self._ends[0], self._ends[-1]) if self._ends else (None, None)
            dataset, written = self.filter_.staging.dataset, self._stream.written
            self.file = describe_shard(dataset, self._path, self.name, self._rows, first, last, written)

    @property
    def _path(self) -> str:
        return f"{self.name}/part-{self.number:05d}.parquet"

    def _open(self) -> None:
        dataset, schema = self.filter_.staging.dataset, self.filter_.schema_of(self.name)
        self._stream = self._stack.enter_context(storage.atomic_writer(dataset / self._path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(self._stream, schema, compression="zstd"))
