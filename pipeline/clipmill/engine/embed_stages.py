"""The stages of the embed graph as Ray Data runs them: read, decode, encode, commit.

Between stages a unit of rows is one row of a block, with its table inside it, and blocks are never merged: so wherever
Ray splits or retries, a unit stays whole and is one task's work.

torch is imported where pictures are decoded and encoded and nowhere else: each worker process that imports it takes
seconds of a core to start, and those that only read or write need not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import Datasink, Datasource, ReadTask
from ray.data.block import Block, BlockMetadata

from clipmill import storage
from clipmill.core.errors import ClipmillError, RunFailed
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.core.settings import ModelSettings
from clipmill.embed.commit import commit_unit, pack_unit, serialise
from clipmill.embed.layout import PARTS, Layout
from clipmill.embed.reject_limit import REASON
from clipmill.embed.statistics import Statistics
from clipmill.engine.metrics import BYTES, ENCODING
from clipmill.source.columns import Columns
from clipmill.source.image_files import load_image_bytes
from clipmill.source.inputs import InputFile
from clipmill.source.reading import read_units
from clipmill.source.units import Units, read_groups

if TYPE_CHECKING:
    from clipmill.encoders.preprocess import Preprocessing
    from clipmill.source.corrupt import Corruption

_BLOCK = pa.schema([("unit", pa.int64()), ("payload", pa.large_binary()), ("seconds", pa.string())])


class UnitSource(Datasource):
    """The units still to do. One read task streams the units that share row groups."""

    def __init__(self, units: Units, inputs: Sequence[InputFile], columns: Columns) -> None:
        super().__init__()
        self._groups = read_groups(units, inputs)
        self._inputs = {file.ordinal: file for file in inputs}
        self._columns = columns

    @property
    def groups(self) -> int:
        """How many read tasks there are."""
        return len(self._groups)

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before the rows are read."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        """A task a group of units."""
        tasks = []
        for units in self._groups:
            files = [self._inputs[ordinal] for ordinal in sorted(set(units.ordinals.tolist()))]
            metadata = BlockMetadata(num_rows=len(units), size_bytes=None, input_files=None, exec_stats=None)
            tasks.append(ReadTask(partial(_read_group, units, files, self._columns), metadata, schema=_BLOCK))
        return tasks


def _read_group(units: Units, files: Sequence[InputFile], columns: Columns) -> Iterator[pa.Table]:
    tables = iter(read_units(units, files, columns))
    for unit in units:
        started, cpu = time.perf_counter(), time.process_time()
        table = _with_source(next(tables), files)
        seconds = {"read": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        yield _block(unit.number, table, seconds)


def _with_source(table: pa.Table, files: Sequence[InputFile]) -> pa.Table:
    paths = {file.ordinal: file.path for file in files}
    sources = [paths[row >> ORDINAL_SHIFT] for row in table.column("row").to_pylist()]
    return table.append_column("source", pa.array(sources, pa.string()))


def _block(unit: int, table: pa.Table, seconds: dict[str, float]) -> pa.Table:
    started, cpu = time.perf_counter(), time.process_time()
    payload = pa.array([serialise(table)], pa.large_binary())
    _count_copy(seconds, started, cpu)
    return pa.table([pa.array([unit], pa.int64()), payload, pa.array([json.dumps(seconds)])], schema=_BLOCK)


def _unpack(block: pa.Table) -> Iterator[tuple[int, pa.Table, dict[str, float]]]:
    for unit, payload, seconds in zip(
        block.column("unit").to_pylist(), block.column("payload"), block.column("seconds").to_pylist(), strict=True
    ):
        started, cpu = time.perf_counter(), time.process_time()
        table, spent = pa.ipc.open_stream(payload.as_buffer()).read_all(), json.loads(seconds)
        _count_copy(spent, started, cpu)
        yield unit, table, spent


def _count_copy(seconds: dict[str, float], started: float, cpu: float) -> None:
    """Adds what copying a unit between processes took since these readings of the clocks."""
    seconds["copy"] = seconds.get("copy", 0.0) + time.perf_counter() - started
    seconds["cpu"] += time.process_time() - cpu


def decode_block(
    block: pa.Table,
    *,
    preprocessing: Preprocessing,
    max_image_pixels: int,
    thumbnail_pixels: int | None,
    corruption: Corruption | None,
    tally: Any,
) -> pa.Table:
    """Units with their pictures decoded, made worse where that is asked for, and resized."""
    import torch

    from clipmill.embed.unit import decode_unit

    torch.set_num_threads(1)
    decoded = []
    for unit, raw, seconds in _unpack(block):
        tally.begun.remote(unit, "decoding")
        started, cpu = time.perf_counter(), time.process_time()
        with _named(raw, "decoding"):
            table = decode_unit(raw, preprocessing, max_image_pixels, thumbnail_pixels, _load_beside, corruption)
        seconds["decode"] = time.perf_counter() - started
        seconds["cpu"] += time.process_time() - cpu
        decoded.append(_block(unit, table, seconds))
    return pa.concat_tables(decoded)


@contextmanager
def _named(rows: pa.Table, doing: str) -> Iterator[None]:
    """What fails in here is told with the rows and the file that it failed at."""
    try:
        yield
    except ClipmillError:
        raise
    except Exception as error:
        numbers, source = rows.column("row"), rows.column("source")[0].as_py()
        first, last = (numbers[at].as_py() & ((1 << ORDINAL_SHIFT) - 1) for at in (0, -1))
        reason = " ".join(str(error).split())[:500]
        raise RunFailed(
            f"{doing} rows {first} to {last} of {source} failed: {type(error).__name__}: {reason}; what is done is kept: "
            "run the same command again to continue, without these rows if they fail again"
        ) from error


@lru_cache(maxsize=256)
def _source_location(source: str) -> storage.Location:
    return storage.resolve(source)


def _load_beside(path: str, source: str) -> bytes:
    return load_image_bytes(path, _source_location(source))


class Encoder:
    """An actor that holds the model. ``shipment`` is a list of one reference: the node's actors share what it points to."""

    def __init__(self, shipment: list[Any], settings: dict[str, Any], threads: int, tally: Any) -> None:
        import torch

        from clipmill.encoders.shipping import unship

        ray.get(tally.starting.remote())  # loading may end this process, and what is under way then is lost
        torch.set_num_threads(threads)
        self._tally = tally
        model = unship(ray.get(shipment[0]), ModelSettings(**settings))
        self._model = replace(model, on_batch=lambda: tally.alive.remote())
        _ = self._model.towers  # brought to their precision here, and not in the time of the first unit
        if self._model.device.type == "cuda" and not settings.get("batch_size"):
            self._model.find_batch_size()  # on a CPU sizes make no difference that is worth a search
        self._compared = self._model.precision == "fp32"
        tally.started.remote()

    @property
    def _how(self) -> str:
        return f"{self._model.device.type} {self._model.precision} batch {self._model.batches.size}"

    def __call__(self, block: pa.Table, *, kept: Sequence[pa.Field], thumbnails: bool) -> pa.Table:
        from clipmill.embed.parity import compare_with_fp32
        from clipmill.embed.unit import encode_unit

        encoded = []
        for unit, decoded, seconds in _unpack(block):
            self._tally.begun.remote(unit, "encoding")
            began, cpu = time.time(), time.process_time()
            with _named(decoded, "encoding"):
                done = encode_unit(self._model, decoded, kept, thumbnails=thumbnails)
            done.seconds.update(seconds)
            done.seconds["cpu"] += time.process_time() - cpu
            statistics = Statistics.of(done, decoded.num_rows)
            statistics.encoded_with[self._how] = decoded.num_rows
            statistics.encoding_from, statistics.encoding_until = began, time.time()
            if not self._compared:
                compare_with_fp32(self._model, decoded, unit, statistics)
                self._compared = statistics.compared > 0
            packed = pack_unit(done, statistics)
            encoded.append(packed.add_column(0, "unit", pa.array([unit], pa.int64())))
        return pa.concat_tables(encoded)


class UnitSink(Datasink[dict[str, Any]]):
    """Commits units as they come. Its result is the statistics of the units that this run wrote."""

    def __init__(self, layout: Layout, tally: Any) -> None:
        self._layout = layout
        self._tally = tally
        self.written: list[dict[str, Any]] = []

    def write(self, blocks: Iterable[Block], ctx: Any) -> dict[str, Any]:
        """Makes each unit durable and reports it to the tally."""
        total = Statistics()
        for block in blocks:
            for index, number in enumerate(block.column("unit").to_pylist()):
                started = time.perf_counter()
                packed = block.slice(index, 1)
                commit_unit(self._layout, number, packed.select([*PARTS, "statistics"]))
                statistics = Statistics.from_dict(json.loads(packed.column("statistics")[0].as_py()))
                statistics.seconds.update({"write": time.perf_counter() - started})
                total.add(statistics)
                self._tally.finished.remote(number, {**counts_of(statistics), BYTES: packed.nbytes})
        total.captions_by_file.clear()
        return vars(total)

    def on_write_complete(self, write_result: Any) -> None:
        """Keeps what the write tasks returned."""
        self.written = list(write_result.write_returns)


def counts_of(statistics: Statistics) -> dict[str, int]:
    """What the driver is told of units: rows and what became of them, rejects also by reason, and the time of encoders."""
    names = ("rows", "images", "captions", "rejected_images", "rejected_captions")
    reasons = {REASON + reason: count for reason, count in statistics.reasons.items()}
    encoding = statistics.seconds["encode_images"] + statistics.seconds["encode_captions"]
    return {**{name: getattr(statistics, name) for name in names}, **reasons, ENCODING: round(1000 * encoding)}
