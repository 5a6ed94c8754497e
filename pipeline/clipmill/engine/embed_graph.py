"""The embed graph on Ray Data: read, decode on CPU tasks, encode on an actor pool, commit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, ExecutionResources
from ray.data.context import AutoscalingConfig, DataContext

from clipmill.core.settings import ModelSettings
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import Decoding
from clipmill.engine.embed_stages import CONCURRENT_UNITS, Encoder, UnitSource, commit_block, decode_block
from clipmill.engine.encoder_pool import EncoderPool
from clipmill.engine.slice_driver import Committed
from clipmill.engine.stop import StopSwitch
from clipmill.source.columns import Columns
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.units.layout import Layout
from clipmill.stage.units.shard_maker import WRITE_CORES

_READ_CPUS = 0.02
_READ_CPUS_GROWING = 0.25
_DECODE_CPUS = 0.45
"""Encoders and one task of each other kind fit into one core together, so the smallest machine cannot starve a stage;
decode and encode ask for different amounts, because stages that ask for the same are fused into one."""
_RETRIES = 3
"""Of a task: a unit that kills its worker every time ends the run, named."""
_RESTARTS = 100
"""Of an encoder, which on spot machines may lose its node many times in a long run through no fault of its work."""
_GROWS_AT, _SHRINKS_AT = 1.0, 0.5 / CONCURRENT_UNITS
"""Of the places that encoders on GPUs have for units: with all taken, units wait for a GPU and the pool grows; with half a unit
an encoder it shrinks. Ray's own bounds suit actors that work one unit at a time: here they would ask for six decoded units
an encoder before another is started, which are more than a small input has or an object store may hold."""


@dataclass(frozen=True)
class EmbedGraph:
    """How units are embedded, whichever they are. ``encoders`` are those of one execution. ``shipment`` is a list of a
    reference to the model (`clipmill.encoders.shipping`), ``tokenizer`` one of a reference to its tokenizer, or empty."""

    columns: Columns
    decoding: Decoding
    layout: Layout[Statistics]
    model_settings: ModelSettings
    kept: tuple[pa.Field, ...]
    thumbnails: bool
    encoders: EncoderPool
    shipment: list[Any]
    tokenizer: list[Any]
    share: float = 1.0
    """Of the cluster, which other executions use at the same time."""

    doing = "embedding"

    def run(
        self, units: Units, inputs: Sequence[InputFile], tally: Any, switch: StopSwitch, token: str
    ) -> Iterator[Committed[Statistics]]:
        """Embeds and commits units; yields what each commit did. Raises what Ray raises."""
        self._set_context(switch)
        encoders, decoding = self.encoders, self.decoding
        source = UnitSource(units, inputs, self.columns)
        dataset = ray.data.read_datasource(source, override_num_blocks=source.groups, **self._reading(source.groups))
        dataset = dataset.map_batches(
            partial(decode_block, decoding=decoding, tokenizer=self.tokenizer, token=token),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_DECODE_CPUS if not encoders.gpus else 1,
            max_retries=_RETRIES,
        )
        dataset = dataset.map_batches(
            Encoder,
            fn_constructor_args=(
                self.shipment,
                self.model_settings.model_dump(),
                encoders.threads,
                tally,
                token,
                self.kept,
                self.thumbnails,
                decoding if decoding.on_gpu else None,
            ),
            batch_size=1,
            batch_format="pyarrow",
            compute=self._pool(len(units)),
            num_cpus=encoders.cpus,
            num_gpus=encoders.gpus or None,
            max_restarts=_RESTARTS,
            max_task_retries=_RETRIES,
        )
        dataset = dataset.map_batches(
            partial(commit_block, layout=self.layout),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=WRITE_CORES,
            max_retries=_RETRIES,
        )
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from _told(block)

    def _reading(self, groups: int) -> dict[str, Any]:
        """What readers ask for: as many as encoders, or as many as a cluster that grows has room for beside them."""
        if self.encoders.grows and self.encoders.roomy:
            return {"num_cpus": _READ_CPUS_GROWING}
        return {"num_cpus": _READ_CPUS, "concurrency": min(self.encoders.size, groups)}

    def _pool(self, units: int) -> ActorPoolStrategy:
        size = min(self.encoders.size, units)
        at_once: dict[str, Any] = {}
        if self.encoders.gpus:
            at_once = {"enable_true_multi_threading": True, "max_concurrent_calls_per_actor": CONCURRENT_UNITS}
        if self.encoders.grows and units > size:
            return ActorPoolStrategy(min_size=1, initial_size=size, max_size=units, **at_once)
        return ActorPoolStrategy(size=size, **at_once)

    def _set_context(self, switch: StopSwitch) -> None:
        context = quiet_context(switch, 1.0 if self.encoders.grows else self.share)
        context.max_consecutive_actor_init_deaths = _RETRIES
        context.autoscaling_config = (
            AutoscalingConfig(_GROWS_AT, _SHRINKS_AT) if self.encoders.gpus else AutoscalingConfig()
        )


def quiet_context(switch: StopSwitch, share: float) -> DataContext:
    """Ray Data's settings of this process: a block a unit, no output, a run that ``switch`` can stop, and no more than a share
    of what the cluster has, of whose object store one execution alone would take half."""
    warnings.filterwarnings("ignore", category=ray.util.annotations.RayDeprecationWarning)
    context = DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [cast(Any, switch)]
    if share < 1:
        there = ray.cluster_resources()
        context.execution_options.resource_limits = ExecutionResources(
            cpu=there.get("CPU", 0.0) * share,
            gpu=there.get("GPU", 0.0) * share,
            object_store_memory=there.get("object_store_memory", 0.0) * share / 2,
        )
    return context


def _told(block: pa.Table) -> Iterator[Committed[Statistics]]:
    columns = (block.column(name).to_pylist() for name in ("unit", "counts", "statistics"))
    for unit, counts, statistics in zip(*columns, strict=True):
        yield Committed(unit, json.loads(counts), Statistics.from_dict(json.loads(statistics)))
