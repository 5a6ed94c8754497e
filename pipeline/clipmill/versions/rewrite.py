"""The files of some rows without those that are dead, and with those taken down as rejects and nothing else; of several that
are small, one."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import FRAME, HASHES, IMAGE_SHA256, ORDINAL_SHIFT, REJECTED, Reason
from clipmill.core.takedown import TAKEN_DOWN as TAKEN_DOWN
from clipmill.datasets.manifests import Embeddings, part_writer
from clipmill.datasets.shards import Shard, describe_shard
from clipmill.embedding.layout import PARTS
from clipmill.source.media import MEDIA
from clipmill.storage import Location
from clipmill.versions.matching import hashes_array
from clipmill.versions.takedown import Takedown

_ROW_GROUP_ROWS = 8192


@dataclass(frozen=True)
class Group:
    """Files that were made together: images, captions and rejects of the same rows. ``name`` is what all are called."""

    dataset: Embeddings
    name: str
    files: tuple[Shard, ...]

    @property
    def rows(self) -> tuple[int, int] | None:
        """The first and the last row in any of the files; None where there is none."""
        firsts = [file.first_row for file in self.files if file.first_row is not None]
        lasts = [file.last_row for file in self.files if file.last_row is not None]
        return (min(firsts), max(lasts)) if firsts and lasts else None

    def may_hold(self, ordinals: Iterable[int]) -> bool:
        """Whether rows of these source files could be among them."""
        if self.rows is None:
            return False
        first, last = (row >> ORDINAL_SHIFT for row in self.rows)
        return any(first <= ordinal <= last for ordinal in ordinals)

    def may_hold_any(self, rows: NDArray[np.int64]) -> bool:
        """Whether any of these rows, which ascend, lies between its first and its last."""
        if self.rows is None:
            return False
        first, last = self.rows
        return bool(np.searchsorted(rows, first) < np.searchsorted(rows, last, side="right"))

    def file(self, part: str) -> Shard | None:
        return next((file for file in self.files if file.part == part), None)

    @property
    def size(self) -> int:
        """Input rows, about: images, or what captions and rejects there are for each of the dataset's rows."""
        counts = self.dataset.manifest.counts
        a_row = max(1, round(counts.captions / max(1, counts.rows)))
        rows = {file.part: file.rows for file in self.files}
        return max(
            *(rows.get(part, 0) for part in HASHES), (rows.get("captions", 0) + rows.get("rejected", 0)) // a_row
        )


def groups_of(dataset: Embeddings) -> list[Group]:
    """The files of a dataset by name, in order of rows."""
    found: dict[str, list[Shard]] = {}
    for file in dataset.shards:
        found.setdefault(file.path.rsplit("/", 1)[-1], []).append(file)
    groups = [Group(dataset, name, tuple(files)) for name, files in found.items()]
    return sorted(groups, key=lambda group: (group.rows or (-1, -1), group.name))


@dataclass(frozen=True)
class Leaving:
    """What is left out when files are written again: rows of ``dead`` source files, and rows that are ``gone`` (ascending);
    what was taken down, which becomes rejects that say nothing else; with ``hashes`` the column `IMAGE_SHA256`."""

    dead: frozenset[int]
    removed: Takedown
    hashes: bool = False
    gone: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def alive(self, table: pa.Table) -> pa.Table:
        """The rows of files that are there, whose pictures are."""
        ordinals = pc.shift_right(table.column("row"), ORDINAL_SHIFT)
        away = pc.is_in(ordinals, value_set=pa.array(sorted(self.dead), pa.int64()))
        if len(self.gone):
            away = pc.or_(away, pc.is_in(table.column("row"), value_set=pa.array(self.gone)))
        return table.filter(pc.invert(away))

    def is_in(self, group: Group) -> bool:
        """Whether files hold an id or a picture that was taken down, or a reject that still tells of one."""
        ids = pa.array(sorted(self.removed.ids), pa.string())
        for part in PARTS:
            columns = ["id", *(["detail"] if part == "rejected" else []), *self._hash_column(group, part)]
            file = group.file(part)
            if file is None or not file.rows:
                continue
            for batch in group.dataset.open_shard(file).iter_batches(columns=columns):
                if pc.any(self._marks(batch, ids)).as_py():
                    return True
        return False

    def _hash_column(self, group: Group, part: str) -> list[str]:
        wanted = part in HASHES and self.removed.contents and group.dataset.manifest.has_hashes
        return [HASHES[part]] if wanted else []

    def _marks(self, batch: pa.RecordBatch, ids: pa.Array) -> pa.Array:
        marks = pc.is_in(batch.column("id"), value_set=ids)
        if "detail" in batch.schema.names:
            return pc.and_(marks, pc.not_equal(batch.column("detail"), TAKEN_DOWN))
        for name in set(HASHES.values()) & set(batch.schema.names):
            marks = pc.or_(marks, pc.is_in(batch.column(name), value_set=hashes_array(self.removed.contents)))
        return marks


def rewrite(groups: Sequence[Group], target: Location, name: str, leaving: Leaving) -> list[Shard]:
    """Writes the files of neighbours, in order of rows, to ``target`` as one file per part under another name, without
    what is left out. Files that have no rows left are written empty.

    Memory holds a row group and the rejects.
    """
    taken = _TakenDown(leaving, _sources(groups) if len(leaving.removed) else {})
    written = []
    for part in PARTS:  # pictures first: their captions and rejects go with them
        path, first = f"{part}/{name}", next(_opened(groups, part), None)
        if part == "rejected":
            found = [taken.quieted(parquet.read()) for parquet in _opened(groups, part)] + taken.rejects
            table = pa.concat_tables(found) if found else REJECTED.empty_table()
            written.append(_write(target, path, part, REJECTED, [_in_order(table)]))
        elif first is not None:
            left_out = IMAGE_SHA256 if leaving.hashes else None
            schema = pa.schema([field for field in first.schema_arrow if field.name != left_out])
            kept = chain.from_iterable(taken.kept(one, part) for one in _opened(groups, part))
            written.append(_write(target, path, part, schema, kept))
    return written


def _opened(groups: Iterable[Group], part: str) -> Iterator[pq.ParquetFile]:
    """The files of a part, each opened when it is its turn: there may be more than a process may have open."""
    return (group.dataset.open_shard(file) for group in groups if (file := group.file(part)) is not None)


class _TakenDown:
    """Tells the rows that stay from those taken down, which it gathers as ``rejects``."""

    def __init__(self, leaving: Leaving, sources: dict[int, str]) -> None:
        self._leaving = leaving
        self._ids = pa.array(sorted(leaving.removed.ids), pa.string())
        self._hashes = hashes_array(leaving.removed.contents)
        self._sources = sources
        self._rows: list[int] = []
        self.rejects: list[pa.Table] = []

    def kept(self, parquet: pq.ParquetFile, part: str) -> Iterator[pa.Table]:
        """The rows of a file that stay, a row group at a time."""
        for number in range(parquet.num_row_groups):
            table = self._leaving.alive(parquet.read_row_group(number))
            down = self._is_down(table)
            if pc.any(down).as_py():
                gone = table.filter(down)
                once = _first_of_rows(gone, self._rows) if FRAME in gone.schema.names else gone
                if part in HASHES:
                    self._rows += once.column("row").to_pylist()
                self.rejects.append(_as_rejects(once, part, self._sources))
                table = table.filter(pc.invert(down))
            yield table

    def quieted(self, rejects: pa.Table) -> pa.Table:
        """Rejects of earlier times; what was taken down is not told of any more."""
        table = self._leaving.alive(rejects)
        detail = pc.if_else(self._is_down(table), TAKEN_DOWN, table.column("detail"))
        return table.set_column(table.schema.get_field_index("detail"), REJECTED.field("detail"), detail)

    def _is_down(self, table: pa.Table) -> pa.ChunkedArray:
        down = pc.is_in(table.column("id"), value_set=self._ids)
        for name in set(HASHES.values()) & set(table.schema.names):
            down = pc.or_(down, pc.is_in(table.column(name), value_set=self._hashes))
        return pc.or_(down, pc.is_in(table.column("row"), value_set=pa.array(self._rows, pa.int64())))


def _first_of_rows(table: pa.Table, known: Sequence[int]) -> pa.Table:
    """One line of each row that is not ``known``: the pictures of a video are taken down together."""
    rows = table.column("row").to_numpy()
    first = np.concatenate([[True], rows[1:] != rows[:-1]]) & ~np.isin(rows, known)
    return table.filter(pa.array(first))


def _as_rejects(table: pa.Table, part: str, sources: dict[int, str]) -> pa.Table:
    of_captions = part == "captions"
    kind = "caption" if of_captions else next(one.name for one in MEDIA.values() if one.part == part)
    rows = table.column("row").to_pylist()
    count = len(rows)
    return pa.table(
        [
            table.column("row"),
            table.column("id"),
            pa.array([sources[row >> ORDINAL_SHIFT] for row in rows], pa.string()),
            pa.array([kind] * count, pa.string()),
            table.column("caption_index") if of_captions else pa.nulls(count, pa.int32()),
            pa.array([Reason.REMOVED.value] * count, pa.string()),
            pa.array([TAKEN_DOWN] * count, pa.string()),
        ],
        schema=REJECTED,
    )


def _sources(groups: Iterable[Group]) -> dict[int, str]:
    found: dict[int, str] = {}
    for location in {group.dataset.location.uri: group.dataset.location for group in groups}.values():
        table = storage.read_table(location / "inputs.parquet")
        found |= zip(table.column("ordinal").to_pylist(), table.column("path").to_pylist(), strict=True)
    return found


def _in_order(rejects: pa.Table) -> pa.Table:
    """By row, the image before its captions."""
    index = pc.fill_null(rejects.column("caption_index"), -1)
    keys = pa.table({"row": rejects.column("row"), "index": index})
    return rejects.take(pc.sort_indices(keys, sort_keys=[("row", "ascending"), ("index", "ascending")]))


def _write(target: Location, path: str, part: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> Shard:
    rows = 0
    ends: list[int] = []
    with ExitStack() as stack:
        stream = stack.enter_context(storage.atomic_writer(target / path))
        writer = stack.enter_context(part_writer(stream, schema))
        for table in _row_groups(tables):
            column = table.column("row")
            ends = [ends[0] if ends else column[0].as_py(), column[-1].as_py()]
            rows += table.num_rows
            writer.write_table(table.select(schema.names).cast(schema), row_group_size=_ROW_GROUP_ROWS)
    first, last = ends or (None, None)
    return describe_shard(target, path, part, rows, first, last, stream.written)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, so many at a time as make a row group: those of small files are small."""
    waiting: list[pa.Table] = []
    for table in tables:
        if table.num_rows:
            waiting.append(table)
        while sum(part.num_rows for part in waiting) >= _ROW_GROUP_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, _ROW_GROUP_ROWS)
            waiting = [joined.slice(_ROW_GROUP_ROWS)]
    if any(table.num_rows for table in waiting):
        yield pa.concat_tables(waiting)
