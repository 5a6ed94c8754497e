"""The stages of the embed graph as Ray Data runs them: read, decode, encode, commit.

Between stages a unit of rows is one row of a block, with its table inside it, and blocks are never merged: so wherever
Ray splits or retries, a unit stays whole and is one task's work. What is done with a unit: `clipmill.embedding.steps`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from clipmill.core.settings import ModelSettings
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import Decoding, Seconds, UnitEncoder, commit, read_rows, timed
from clipmill.engine.beacons import doing, sweep_here
from clipmill.engine.device import enter_device
from clipmill.engine.watch import signs_to
from clipmill.source.ahead import are_far, one_ahead
from clipmill.source.columns import Columns
from clipmill.source.grouping import files_of, read_groups
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.units.commit import STATISTICS, one_value, serialise
from clipmill.stage.units.layout import Layout

if TYPE_CHECKING:
    from clipmill.encoders.tokens import Tokenizer

_BLOCK = pa.schema([("unit", pa.int64()), ("payload", pa.large_binary()), ("seconds", pa.string())])


class UnitSource(Datasource):
    """The units still to do. One read task streams the units that share row groups."""

    def __init__(self, units: Units, inputs: Sequence[InputFile], columns: Columns) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
        """A task per group of units."""
        tasks = []
        for units in self._groups:
            files = files_of(units, self._inputs)
            metadata = BlockMetadata(num_rows=len(units), size_bytes=None, input_files=None, exec_stats=None)
            tasks.append(ReadTask(partial(_read_group, units, files, self._columns), metadata, schema=_BLOCK))
        return tasks


def _read_group(units: Units, files: Sequence[InputFile], columns: Columns) -> Iterator[pa.Table]:
    far = are_far(files)
    rows = read_rows(units, files, columns, time.thread_time if far else time.process_time)
    for unit, table, seconds in one_ahead(rows) if far else rows:
        yield _block(unit, table, seconds)


def _block(unit: int, table: pa.Table, seconds: Seconds) -> pa.Table:
    with timed(seconds, "copy"):
        payload = one_value(serialise(table))
    return pa.table([pa.array([unit], pa.int64()), payload, pa.array([json.dumps(seconds)])], schema=_BLOCK)


def unpack(block: pa.Table) -> Iterator[tuple[int, pa.Table, Seconds]]:
    """The units of a block, each with its table and what was done with it so far took."""
    for unit, payload, told in zip(
        block.column("unit").to_pylist(), block.column("payload"), block.column("seconds").to_pylist(), strict=True
    ):
        seconds: Seconds = json.loads(told)
        with timed(seconds, "copy"):
            table = pa.ipc.open_stream(payload.as_buffer()).read_all()
        yield unit, table, seconds


def decode_block(block: pa.Table, *, decoding: Decoding, tokenizer: list[Any], token: str) -> pa.Table:
    """Units with their captions tokenised, and with their pictures decoded where the encoder does not do that. ``tokenizer`` is
    a list of a reference to it as it was shipped, or an empty one; ``token`` is that of the execution."""
    import torch

    torch.set_num_threads(1)
    tokenise = _tokenizer(tokenizer[0]) if tokenizer else None
    decoded = []
    for unit, raw, seconds in unpack(block):
        with doing(token, unit, "decoding"):
            rows = raw if decoding.on_gpu else decoding.pictures(raw, seconds)
            decoded.append(_block(unit, decoding.tokenise(rows, seconds, tokenise), seconds))
    return pa.concat_tables(decoded)


@lru_cache(maxsize=1)
def _tokenizer(shipped: Any) -> Tokenizer:
    """Loaded once in a process, which decodes many units."""
    from clipmill.encoders.shipping import unship_tokenizer

    return unship_tokenizer(ray.get(shipped))


ALIVE_SECONDS = 10.0
"""Between two signs of life of an encoder, which may have a unit for minutes."""
CONCURRENT_UNITS = 3
"""Of an encoder on a GPU: one is encoded while the next is unpacked and the one before is packed."""


class Encoder:
    """An actor that holds the model. ``shipment`` is a list of one reference: the node's actors share what it points to. With a
    ``decoding`` it decodes pictures too."""

    def __init__(
        self,
        shipment: list[Any],
        settings: dict[str, Any],
        threads: int,
        tally: Any,
        token: str,
        kept: Sequence[pa.Field],
        thumbnails: bool,
        decoding: Decoding | None = None,
    ) -> None:
        context = ray.get_runtime_context()
        enter_device(context.get_accelerator_ids().get("GPU", []), context.get_node_id())

        import torch

        from clipmill.encoders.shipping import unship

        # Loading may end this process, and what is under way then is lost.
        ray.get(tally.starting.remote(context.get_actor_id()))
        torch.set_num_threads(threads)
        sweep_here()
        self._token = token
        self._alive = signs_to(tally, ALIVE_SECONDS)
        model = replace(unship(ray.get(shipment[0]), ModelSettings(**settings)), on_batch=self._alive)
        if model.device.type == "cuda" and not settings.get("batch_size"):
            model.find_batch_size()  # on a CPU sizes make no difference that is worth a search
        clock = time.thread_time if model.device.type == "cuda" else time.process_time
        self._encoder = UnitEncoder(model, kept, thumbnails=thumbnails, clock=clock, decodes=decoding is not None)
        self._decoding = replace(decoding, clock=clock) if decoding else None
        tally.started.remote()

    def __call__(self, block: pa.Table) -> pa.Table:
        encoded = []
        for unit, decoded, seconds in unpack(block):
            with doing(self._token, unit, "encoding"):
                if self._decoding:
                    decoded = self._decoding.pictures(decoded, seconds)
                packed = self._encoder.encode(unit, decoded, seconds)
            encoded.append(packed.add_column(0, "unit", pa.array([unit], pa.int64())))
        return pa.concat_tables(encoded)


def commit_block(block: pa.Table, *, layout: Layout[Statistics]) -> pa.Table:
    """Makes each unit durable; what is left of it are its number, the counts by which a run is followed, and its figures."""
    done = []
    for index, unit in enumerate(block.column("unit").to_pylist()):
        statistics, counts = commit(layout, unit, block.slice(index, 1).select([*layout.names, STATISTICS]))
        statistics.captions_by_file.clear()
        done.append({"unit": unit, "counts": json.dumps(counts), "statistics": json.dumps(vars(statistics))})
    return pa.Table.from_pylist(done)
