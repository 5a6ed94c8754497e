"""The embed graph on Ray Data: read, decode on CPU tasks, encode on an actor pool, commit through a Datasink.

Between stages a unit of rows is one row of a block, with its table inside it, and blocks are never merged: so wherever
Ray splits or retries, a unit stays whole and is one task's work.

torch is imported where pictures are decoded and encoded and nowhere else: each worker process that imports it takes
seconds of a core to start, and those that only read or write need not.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Datasink, Datasource, ReadTask
from ray.data.block import Block, BlockMetadata

from pipeline import environment, storage
from pipeline.config import ClusterSettings, ModelSettings
from pipeline.errors import ClipmillError, RunFailed, UserError
from pipeline.flow.cluster import Cluster, cause_of
from pipeline.flow.commit import (
    PARTS,
    Layout,
    Statistics,
    commit_unit,
    compact_shard,
    find_finished,
    pack_unit,
    serialise,
    shards_to_make,
)
from pipeline.flow.embed_plan import EmbedPlan, finish, open_staging
from pipeline.flow.watch import start_tally, watched
from pipeline.owner import owned
from pipeline.schemas import ORDINAL_SHIFT, EmbeddingsManifest
from pipeline.source.columns import Columns
from pipeline.source.image_files import load_image_bytes
from pipeline.source.inputs import InputFile
from pipeline.source.reading import read_units
from pipeline.source.units import Unit, read_groups

if TYPE_CHECKING:
    from pipeline.clip.preprocess import Preprocessing

_READ_CPUS = 0.02
_WRITE_CPUS = 0.02
_ENCODE_CPUS = 0.5
_DECODE_CPUS = 0.45
"""Encoders and one task of each other kind fit into one core together, so the smallest machine cannot starve a stage;
decode and encode ask for different amounts, because stages that ask for the same are fused into one."""
_MOST_CPU_ENCODERS = 8
_RETRIES = 3
_STALL_SECONDS = 900.0

_BLOCK = pa.schema([("unit", pa.int64()), ("payload", pa.large_binary()), ("seconds", pa.string())])


def embed(
    plan: EmbedPlan, cluster: Cluster, settings: ClusterSettings, on_progress: Callable[[int], None]
) -> EmbeddingsManifest:
    """Does what is left of the plan and publishes the dataset. ``on_progress`` is given numbers of rows.

    Raises RunFailed when a stage fails for good; what was committed is kept and the same plan continues from it.
    """
    with owned(storage.staging_of(plan.output)):
        progress = open_staging(plan)
        on_progress(progress.start.rows_reused)
        encoders = encoder_pool(cluster, settings)
        shards = ShardMaker(plan.layout, progress.todo)
        statistics = Statistics()
        if progress.todo:
            tally = start_tally()
            work = partial(_run_graph, plan, progress.todo, encoders, tally)
            for done in watched(work, tally, on_progress, shards.note, _STALL_SECONDS, "the encoders"):
                statistics.add(Statistics.from_dict(done))
        shards.finish()
        hardware = {**environment.hardware(), "cpus": cluster.cpus, "gpus": cluster.gpus, "nodes": cluster.nodes}
        return finish(plan, progress, statistics, {**hardware, "encoders": encoders.size}, encoders.size)


class ShardMaker:
    """Starts the making of each shard when its last unit is committed: once, as a task, while the run goes on."""

    def __init__(self, layout: Layout, todo: Sequence[Unit]) -> None:
        self._layout = layout
        self._missing: dict[int, set[int]] = defaultdict(set)
        for unit in todo:
            self._missing[layout.shard_of(unit.number)].add(unit.number)
        self._make = ray.remote(num_cpus=_WRITE_CPUS, max_retries=_RETRIES)(compact_shard)
        self._making: dict[int, Any] = {}

    def note(self, units: Sequence[int]) -> None:
        """These units were committed; a unit may be told again, when its task was retried."""
        for unit in units:
            missing = self._missing[self._layout.shard_of(unit)]
            if unit in missing:
                missing.remove(unit)
                if not missing:
                    self._start(self._layout.shard_of(unit))

    def finish(self) -> None:
        """Makes what is left. Raises RunFailed when units are missing that should be there."""
        self._wait()
        for shard in shards_to_make(self._layout):
            self._start(shard)
        self._wait()
        missing = self._layout.shards - len(find_finished(self._layout).shards)
        if missing:
            raise RunFailed(f"{missing} shards lack units although all were run; run the same command again")

    def _start(self, shard: int) -> None:
        self._making[shard] = self._make.remote(self._layout, shard)

    def _wait(self) -> None:
        try:
            ray.get(list(self._making.values()))
        except ray.exceptions.RayError as error:
            raise cause_of(error, "making shards") from error
        self._making.clear()


@dataclass(frozen=True)
class EncoderPool:
    """How many encoder actors there are and what each is given."""

    size: int
    cpus: float
    gpus: float
    threads: int


def encoder_pool(cluster: Cluster, settings: ClusterSettings) -> EncoderPool:
    """One actor a GPU (or share of one) where there are GPUs or were asked for, else one-threaded actors, one a core.

    Two encoders with a thread each do more than one with two; beyond a few on a node, threads are cheaper than copies of
    the model. Raises UserError for more GPUs an actor than a node has.
    """
    if cluster.gpus > 0 or settings.num_gpu_actors:
        if cluster.gpus and settings.gpus_per_actor > cluster.node_gpus:
            raise UserError(
                f"--gpus-per-actor {settings.gpus_per_actor:g}: no node has more than {cluster.node_gpus:g} GPUs"
            )
        held = int(cluster.gpus / settings.gpus_per_actor)
        return EncoderPool(settings.num_gpu_actors or max(1, held), _ENCODE_CPUS, settings.gpus_per_actor, 1)
    cores = max(1, int(cluster.node_cpus))
    on_a_node = min(cores, _MOST_CPU_ENCODERS)
    size = max(1, round(cluster.cpus * on_a_node / cores))
    return EncoderPool(size, _ENCODE_CPUS * cores / on_a_node, 0, max(1, cores // on_a_node))


def _run_graph(plan: EmbedPlan, todo: Sequence[Unit], encoders: EncoderPool, tally: Any) -> list[dict[str, Any]]:
    warnings.filterwarnings("ignore", category=ray.util.annotations.RayDeprecationWarning)
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    settings = plan.settings
    source = UnitSource(todo, plan.inputs, plan.columns)
    sink = UnitSink(plan.layout, tally)
    decode = partial(
        _decode_block,
        preprocessing=plan.preprocessing,
        max_image_pixels=settings.max_image_pixels,
        thumbnail_pixels=settings.thumbnails,
    )
    try:
        dataset = ray.data.read_datasource(
            source,
            override_num_blocks=source.groups,
            num_cpus=_READ_CPUS,
            concurrency=encoders.size,
        )
        dataset = dataset.map_batches(
            decode,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_DECODE_CPUS if not encoders.gpus else 1,
            max_retries=_RETRIES,
        )
        dataset = dataset.map_batches(
            Encoder,
            fn_constructor_args=(_located(plan).model_dump(), plan.identity.weights_sha256, encoders.threads, tally),
            fn_kwargs={"kept": plan.layout.kept, "thumbnails": plan.layout.thumbnails},
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(encoders.size, max(1, len(todo)))),
            num_cpus=encoders.cpus,
            num_gpus=encoders.gpus or None,
            max_restarts=_RETRIES,
            max_task_retries=_RETRIES,
        )
        dataset.write_datasink(sink, ray_remote_args={"num_cpus": _WRITE_CPUS, "max_retries": _RETRIES})
    except ray.exceptions.RayError as error:
        raise cause_of(error, "embedding") from error
    except ClipmillError:
        raise
    except Exception as error:
        raise cause_of(error, "embedding") from error
    return sink.written


def _located(plan: EmbedPlan) -> ModelSettings:
    """The model by its identity: absolute, since workers run in other folders."""
    found = {"model": plan.identity.name, "pretrained": plan.identity.pretrained or None}
    return plan.settings.model_settings.model_copy(update=found)


class UnitSource(Datasource):
    """The units still to do. One read task streams the units that share row groups."""

    def __init__(self, units: Sequence[Unit], inputs: Sequence[InputFile], columns: Columns) -> None:
        super().__init__()
        by_ordinal = {file.ordinal: file for file in inputs}
        self._groups = [
            (
                group,
                [by_ordinal[ordinal] for ordinal in sorted({span.ordinal for unit in group for span in unit.spans})],
            )
            for group in read_groups(units, inputs)
        ]
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
        for units, files in self._groups:
            metadata = BlockMetadata(num_rows=len(units), size_bytes=None, input_files=None, exec_stats=None)
            tasks.append(ReadTask(partial(_read_group, units, files, self._columns), metadata, schema=_BLOCK))
        return tasks


def _read_group(units: Sequence[Unit], files: Sequence[InputFile], columns: Columns) -> Iterator[pa.Table]:
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
    payload = pa.array([serialise(table)], pa.large_binary())
    return pa.table([pa.array([unit], pa.int64()), payload, pa.array([json.dumps(seconds)])], schema=_BLOCK)


def _unpack(block: pa.Table) -> Iterator[tuple[int, pa.Table, dict[str, float]]]:
    for unit, payload, seconds in zip(
        block.column("unit").to_pylist(), block.column("payload"), block.column("seconds").to_pylist(), strict=True
    ):
        yield unit, pa.ipc.open_stream(payload.as_buffer()).read_all(), json.loads(seconds)


def _decode_block(
    block: pa.Table, *, preprocessing: Preprocessing, max_image_pixels: int, thumbnail_pixels: int | None
) -> pa.Table:
    import torch

    from pipeline.flow.work import decode_unit

    torch.set_num_threads(1)
    decoded = []
    for unit, raw, seconds in _unpack(block):
        started, cpu = time.perf_counter(), time.process_time()
        table = decode_unit(raw, preprocessing, max_image_pixels, thumbnail_pixels, _load_beside)
        seconds["decode"] = time.perf_counter() - started
        seconds["cpu"] += time.process_time() - cpu
        decoded.append(_block(unit, table, seconds))
    return pa.concat_tables(decoded)


@lru_cache(maxsize=256)
def _source_location(source: str) -> storage.Location:
    return storage.resolve(source)


def _load_beside(path: str, source: str) -> bytes:
    return load_image_bytes(path, _source_location(source))


class Encoder:
    """An actor that holds the model. Its arguments are small: each actor loads the weights itself and checks them."""

    def __init__(self, model: dict[str, Any], weights_sha256: str, threads: int, tally: Any) -> None:
        import torch

        from pipeline.clip.model import load_model

        torch.set_num_threads(threads)
        self._model = replace(load_model(ModelSettings(**model)), on_batch=lambda: tally.alive.remote())
        found = self._model.identity.weights_sha256
        if found != weights_sha256:
            raise RunFailed(
                f"the weights {self._model.identity.pretrained} on this node (sha256 {found[:12]}…) are not those the run "
                f"started with ({weights_sha256[:12]}…); copy the same file to every node"
            )

    @property
    def _how(self) -> str:
        return f"{self._model.device.type} {self._model.precision} batch {self._model.batch_size}"

    def __call__(self, block: pa.Table, *, kept: Sequence[pa.Field], thumbnails: bool) -> pa.Table:
        from pipeline.flow.work import encode_unit

        encoded = []
        for unit, decoded, seconds in _unpack(block):
            cpu = time.process_time()
            done = encode_unit(self._model, decoded, kept, thumbnails=thumbnails)
            done.seconds.update(seconds)
            done.seconds["cpu"] += time.process_time() - cpu
            statistics = Statistics.of(done, decoded.num_rows)
            statistics.encoded_with[self._how] = decoded.num_rows
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
        """Makes each unit durable and reports its rows to the tally."""
        total = Statistics()
        for block in blocks:
            for index, number in enumerate(block.column("unit").to_pylist()):
                started = time.perf_counter()
                packed = block.slice(index, 1)
                commit_unit(self._layout, number, packed.select([*PARTS, "statistics"]))
                statistics = Statistics.from_dict(json.loads(packed.column("statistics")[0].as_py()))
                statistics.seconds.update({"write": time.perf_counter() - started})
                total.add(statistics)
                self._tally.finished.remote(number, statistics.rows)
        total.captions_by_file.clear()
        return vars(total)

    def on_write_complete(self, write_result: Any) -> None:
        """Keeps what the write tasks returned."""
        self.written = list(write_result.write_returns)
