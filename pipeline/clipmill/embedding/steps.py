"""The steps that a unit of rows goes through: read, decode, encode, commit. Whoever drives them, they are these.

torch is imported where pictures are decoded and encoded and nowhere else, since a process that imports it takes seconds of
a core to start, and those that only read or write need not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import ClipmillError, RunFailed
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.embedding.statistics import Statistics
from clipmill.source.clip_files import open_clip
from clipmill.source.columns import Columns
from clipmill.source.image_files import load_image_bytes
from clipmill.source.input_file import InputFile
from clipmill.source.media import Medium, Stream
from clipmill.source.reading import read_units
from clipmill.source.units import Units
from clipmill.stage.units.commit import commit_unit, pack_unit
from clipmill.stage.units.layout import Layout

if TYPE_CHECKING:
    from clipmill.embedding.clips import ClipDecoding
    from clipmill.embedding.plan import EmbedPlan
    from clipmill.encoders.model import ClipModel
    from clipmill.encoders.protocol import Preparation
    from clipmill.encoders.tokens import Tokenizer
    from clipmill.source.corrupt import Corruption

Seconds = dict[str, float]
"""What the steps of a unit took so far: wall seconds by step, and ``cpu`` seconds over all of them."""
DECODED_THERE = ", decoding too"
"""In a manifest, of what pictures were encoded with."""
BYTES = "bytes"
"""In the counts of a committed unit: bytes written."""


Clock = Callable[[], float]
"""CPU seconds: `time.process_time` where a process does one thing at a time, `time.thread_time` where its threads do."""


@contextmanager
def timed(seconds: Seconds, step: str, clock: Clock = time.process_time) -> Iterator[None]:
    """Adds what the block takes to ``seconds``."""
    started, cpu = time.perf_counter(), clock()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - started
    seconds["cpu"] = seconds.get("cpu", 0.0) + clock() - cpu


def read_rows(
    units: Units, files: Sequence[InputFile], columns: Columns, clock: Clock = time.process_time
) -> Iterator[tuple[int, pa.Table, Seconds]]:
    """The raw rows of some units, one after the other: the unit's number, its table with the path of each row's file as
    ``source``, and what reading took."""
    tables = iter(read_units(units, files, columns))
    paths = {file.ordinal: file.path for file in files}
    for unit in units:
        seconds: Seconds = {}
        with timed(seconds, "read", clock):
            table = next(tables)
            sources = [paths[row >> ORDINAL_SHIFT] for row in table.column("row").to_pylist()]
            table = table.append_column("source", pa.array(sources, pa.string()))
        yield unit.number, table, seconds
        del table  # or there are two while the next is read


@dataclass(frozen=True)
class Decoding:
    """How pictures are decoded, made worse where that is asked for, and resized; sounds and videos too; and captions
    tokenised."""

    preprocessing: Preparation
    max_image_pixels: int
    thumbnail_pixels: int | None
    corruption: Corruption | None
    allowed: tuple[str, ...]
    clock: Clock
    on_gpu: bool = False
    """JPEGs are decoded by the GPU of the process that encodes."""
    clips: ClipDecoding | None = None
    """How sounds and videos are, where there are any."""

    @staticmethod
    def of(plan: EmbedPlan, clock: Clock = time.process_time) -> Decoding:
        """As the plan says."""
        settings = plan.settings
        limit, allowed = settings.max_image_pixels, settings.allow_outside or ()
        on_gpu = settings.decode == "gpu"
        return Decoding(
            plan.preprocessing, limit, settings.thumbnails, plan.corruption, allowed, clock, on_gpu, plan.clip_decoding
        )

    def decode(self, raw: pa.Table, seconds: Seconds, tokenizer: Tokenizer | None) -> pa.Table:
        """As `clipmill.embedding.unit.decode_unit`, and with a tokenizer `tokenise_unit`."""
        return self.tokenise(self.pictures(raw, seconds), seconds, tokenizer)

    def pictures(self, raw: pa.Table, seconds: Seconds) -> pa.Table:
        """The first half of `decode`."""
        from clipmill.embedding.clips import decode_clips
        from clipmill.embedding.unit import decode_unit
        from clipmill.source.decode_many import jpeg_decoder

        with naming_rows(raw, "decoding"), timed(seconds, "decode", self.clock):
            decoded = decode_unit(
                raw,
                self.preprocessing,
                self.max_image_pixels,
                self.thumbnail_pixels,
                partial(_load_beside, self.allowed),
                self.corruption,
                jpeg_decoder() if self.on_gpu else None,
            )
            return decode_clips(decoded, self.clips, partial(_open_beside, self.allowed)) if self.clips else decoded

    def tokenise(self, rows: pa.Table, seconds: Seconds, tokenizer: Tokenizer | None) -> pa.Table:
        """The other half, of a unit whose pictures are decoded or not; without a tokenizer the unit as it is."""
        from clipmill.embedding.unit import tokenise_unit

        if tokenizer is None:
            return rows
        with naming_rows(rows, "tokenising"), timed(seconds, "tokenise", self.clock):
            return tokenise_unit(rows, tokenizer)


class UnitEncoder:
    """Encodes units with a model that is on its device, and compares the first with float32 where it computes otherwise.
    ``decodes``: JPEGs were decoded there as well, which is told of them."""

    def __init__(
        self,
        model: ClipModel,
        kept: Sequence[pa.Field],
        *,
        thumbnails: bool,
        clock: Clock = time.process_time,
        decodes: bool = False,
    ) -> None:
        _ = model.towers  # brought to their precision here, and not in the time of the first unit
        self._model = model
        self._clock = clock
        self._kept = kept
        self._thumbnails = thumbnails
        self._how = f"{model.device.type} {model.precision}"
        where = f" on {model.device_name}" if model.device_name else ""
        self._where = (DECODED_THERE if decodes else "") + where
        self._compared = model.precision == "fp32"

    def encode(self, unit: int, decoded: pa.Table, seconds: Seconds) -> pa.Table:
        """A decoded unit, packed as one row (`clipmill.stage.units.commit.pack_unit`)."""
        from clipmill.embedding.parity import compare_with_fp32
        from clipmill.embedding.unit import encode_unit

        began, cpu = time.time(), self._clock()
        with naming_rows(decoded, "encoding"):
            done = encode_unit(self._model, decoded, self._kept, thumbnails=self._thumbnails)
        done.seconds.update(seconds)
        done.seconds["cpu"] = seconds.get("cpu", 0.0) + self._clock() - cpu
        statistics = Statistics.of(done, decoded.num_rows)
        statistics.encoded_with[f"{self._how} batch {self._model.batches.size}{self._where}"] = decoded.num_rows
        statistics.encoding_from, statistics.encoding_until = began, time.time()
        if not self._compared:
            compare_with_fp32(self._model, decoded, unit, statistics)
            self._compared = statistics.compared > 0
        return pack_unit(done.tables, statistics)


def commit(layout: Layout[Statistics], unit: int, packed: pa.Table) -> tuple[Statistics, dict[str, int]]:
    """Makes a packed unit durable. Returns its figures, and the counts by which a run is followed."""
    started = time.perf_counter()
    commit_unit(layout, unit, packed)
    statistics = Statistics.from_dict(json.loads(packed.column("statistics")[0].as_py()))
    statistics.seconds.update({"write": time.perf_counter() - started})
    return statistics, {**statistics.counts(), BYTES: packed.nbytes}


@contextmanager
def naming_rows(rows: pa.Table, doing: str) -> Iterator[None]:
    """A failure in the block becomes a RunFailed that names the rows and the file that it came up at."""
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


def _open_beside(
    allowed: Sequence[str], path: str, source: str, medium: Medium
) -> AbstractContextManager[tuple[Stream, bytes]]:
    return open_clip(path, _source_location(source), allowed, medium)


def _load_beside(allowed: Sequence[str], path: str, source: str) -> bytes:
    return load_image_bytes(path, _source_location(source), allowed)


Committed = Callable[[list[int], dict[str, int]], None]
"""Is told of units that were committed, and of their counts, summed."""
