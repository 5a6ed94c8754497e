"""How committed units become shards: each in one pass over its units, recorded when it is done, and read back at the end.

Only the driver starts the making of a shard, one task each.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.datasets.manifests import part_writer
from clipmill.datasets.shards import Shard, describe_shard, shards_of_records
from clipmill.stage.units.commit import Finished, find_finished, read_unit
from clipmill.stage.units.layout import AnySums, Layout, Part

_READ_THREADS = 16


def compact_shard(layout: Layout[AnySums], shard: int, on_unit: Callable[[], object] = lambda: None) -> float:
    """The shard's units, in order, as one file per part; then its record, which makes it done; then the units go.

    ``on_unit`` is called after each. Returns the seconds that it took. Memory holds one unit and one row group a part.
    """
    started = time.perf_counter()
    try:
        _make_shard(layout, shard, on_unit)
    except FileNotFoundError:
        # another task, or one of a driver that was killed, has made the shard meanwhile and taken the units away
        if not storage.is_file(layout.shard_record(shard)):
            raise
    units = [layout.unit_file(number).name for number in layout.units_of(shard)]
    storage.remove_files(layout.unit_folder(shard), units)
    return time.perf_counter() - started


def _make_shard(layout: Layout[AnySums], shard: int, on_unit: Callable[[], object]) -> None:
    total = layout.sums()
    with ExitStack() as files:
        parts = [_PartFile(layout, shard, part, files) for part in layout.parts]
        for number in layout.units_of(shard):
            tables, statistics = read_unit(layout, number)
            for part in parts:
                part.add(tables[part.name])
            total.add(statistics)
            on_unit()
        for part in parts:
            part.end()
    entries = [entry for part in parts if (entry := part.entry()) is not None]
    record = {"statistics": vars(total), "shards": [vars(entry) for entry in entries]}
    storage.write_bytes(layout.shard_record(shard), json.dumps(record).encode())


class _PartFile:
    """One published file of a shard while it is written, in row groups of one size."""

    def __init__(self, layout: Layout[AnySums], shard: int, part: Part, files: ExitStack) -> None:
        self.name = part.name
        self._group = part.row_group_rows
        self._layout = layout
        self._shard = shard
        self._path = layout.part_path(part.name, shard)
        self._stream = files.enter_context(storage.atomic_writer(layout.dataset / self._path))
        self._writer = files.enter_context(part_writer(self._stream, part.schema))
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._ends: list[int] = []

    def add(self, table: pa.Table) -> None:
        """The next rows."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if table.num_rows:
            rows = table.column("row")
            self._ends = [self._ends[0] if self._ends else rows[0].as_py(), rows[-1].as_py()]
        while sum(part.num_rows for part in self._waiting) >= self._group:
            self._write(self._group)

    def end(self) -> None:
        """No more rows come."""
        if any(table.num_rows for table in self._waiting):
            self._write(self._group)

    def entry(self) -> Shard | None:
        """The file when it is closed. None, and no file, where it is empty: but the first shard always has all parts,
        since they tell the schema."""
        if self._rows == 0 and self._shard > 0:
            storage.remove(self._layout.dataset / self._path)
            return None
        first, last = self._ends or (None, None)
        written = self._stream.written
        return describe_shard(self._layout.dataset, self._path, self.name, self._rows, first, last, written)

    def _write(self, rows: int) -> None:
        joined = pa.concat_tables(self._waiting)
        self._writer.write_table(joined.slice(0, rows), row_group_size=self._group)
        self._waiting = [joined.slice(rows)]


def shards_to_make(layout: Layout[AnySums]) -> list[int]:
    """The shards that are not made yet but whose units are all there."""
    finished = find_finished(layout)
    open_shards = (shard for shard in range(layout.shards) if shard not in finished.shards)
    return [shard for shard in open_shards if finished.units.issuperset(layout.units_of(shard))]


def statistics_of(layout: Layout[AnySums], finished: Finished) -> AnySums:
    """The figures of all that is done: of shards from their records, of the other units from their files.

    Units of a shard that is recorded are its own leftovers, where a kill came before they were removed.
    """
    total = layout.sums()
    others = sorted(unit for unit in finished.units if layout.shard_of(unit) not in finished.shards)
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        for _, statistics in pool.map(lambda shard: _read_record(layout, shard), sorted(finished.shards)):
            total.add(statistics)
        for _, statistics in pool.map(lambda unit: read_unit(layout, unit), others):
            total.add(statistics)
    return total


def gather_records(layout: Layout[AnySums]) -> tuple[list[Shard], AnySums]:
    """Files and figures of all shards, in order.

    Raises RunFailed when a file is gone or has another size than was recorded; its shard is made again by the next run.
    """
    total = layout.sums()
    entries: list[Shard] = []
    sizes = {info.path: info.size for info in storage.list_files(layout.dataset)}
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        records = pool.map(lambda shard: _read_record(layout, shard), range(layout.shards))
        for shard, (files, statistics) in enumerate(records):
            _refuse_lost(layout, shard, files, sizes)
            entries.extend(files)
            total.add(statistics)
    entries.sort(key=lambda entry: (layout.names.index(entry.part), entry.path))
    return entries, total


def _read_record(layout: Layout[AnySums], shard: int) -> tuple[Sequence[Shard], AnySums]:
    place = layout.shard_record(shard)
    record = json.loads(storage.read_bytes(place))
    return shards_of_records(record["shards"], place), layout.sums.from_dict(record["statistics"])


def _refuse_lost(layout: Layout[AnySums], shard: int, files: Iterable[Shard], sizes: dict[str, int]) -> None:
    for file in files:
        place = layout.dataset / file.path
        if sizes.get(place.path) != file.bytes:
            storage.remove(layout.shard_record(shard))
            raise RunFailed(
                f"{place} is gone or was cut short since it was made; run the same command again: it makes the rows of "
                "this file anew"
            )
