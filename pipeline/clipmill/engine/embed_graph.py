"""The embed graph on Ray Data: read, decode on CPU tasks, encode on an actor pool, commit through a Datasink."""

import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import ray
from ray.data import ActorPoolStrategy

from clipmill.embed.plan import EmbedPlan
from clipmill.engine.embed_stages import Encoder, UnitSink, UnitSource, decode_block
from clipmill.engine.encoder_pool import EncoderPool
from clipmill.engine.shard_maker import WRITE_CPUS
from clipmill.engine.stop import StopSwitch
from clipmill.source.units import Units

_READ_CPUS = 0.02
_DECODE_CPUS = 0.45
"""Encoders and one task of each other kind fit into one core together, so the smallest machine cannot starve a stage;
decode and encode ask for different amounts, because stages that ask for the same are fused into one."""
_RETRIES = 3
"""Of a task: a unit that kills its worker every time ends the run, named."""
_RESTARTS = 100
"""Of an encoder, which on spot machines may lose its node many times in a long run through no fault of its work."""


@dataclass(frozen=True)
class EmbedGraph:
    """What one run of the graph works on. ``shipment`` points to the model (`clipmill.encoders.shipping`)."""

    plan: EmbedPlan
    todo: Units
    encoders: EncoderPool
    shipment: Any
    tally: Any
    switch: StopSwitch = field(default_factory=StopSwitch)

    def stop(self) -> None:
        """Tells a run that is under way to end: it raises Stopped soon after."""
        self.switch.stop()

    def run(self) -> list[dict[str, Any]]:
        """Embeds and commits the units; returns the statistics of what each write task wrote. Raises what Ray raises."""
        _set_context(self.switch)
        plan, encoders, settings = self.plan, self.encoders, self.plan.settings
        source = UnitSource(self.todo, plan.inputs, plan.columns)
        sink = UnitSink(plan.layout, self.tally)
        dataset = ray.data.read_datasource(
            source,
            override_num_blocks=source.groups,
            num_cpus=_READ_CPUS,
            concurrency=min(encoders.size, source.groups),
        )
        dataset = dataset.map_batches(
            partial(
                decode_block,
                preprocessing=plan.preprocessing,
                max_image_pixels=settings.max_image_pixels,
                thumbnail_pixels=settings.thumbnails,
                corruption=plan.corruption,
                tally=self.tally,
            ),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_DECODE_CPUS if not encoders.gpus else 1,
            max_retries=_RETRIES,
        )
        dataset = dataset.map_batches(
            Encoder,
            fn_constructor_args=(
                [self.shipment],
                settings.model_settings.model_dump(),
                encoders.threads,
                self.tally,
            ),
            fn_kwargs={"kept": plan.layout.kept, "thumbnails": plan.layout.thumbnails},
            batch_size=1,
            batch_format="pyarrow",
            compute=self._pool(),
            num_cpus=encoders.cpus,
            num_gpus=encoders.gpus or None,
            max_restarts=_RESTARTS,
            max_task_retries=_RETRIES,
        )
        dataset.write_datasink(sink, ray_remote_args={"num_cpus": WRITE_CPUS, "max_retries": _RETRIES})
        return sink.written

    def _pool(self) -> ActorPoolStrategy:
        size = min(self.encoders.size, len(self.todo))
        if self.encoders.grows and len(self.todo) > size:
            return ActorPoolStrategy(min_size=1, initial_size=size, max_size=len(self.todo))
        return ActorPoolStrategy(size=size)


def _set_context(switch: StopSwitch) -> None:
    warnings.filterwarnings("ignore", category=ray.util.annotations.RayDeprecationWarning)
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [cast(Any, switch)]
    context.max_consecutive_actor_init_deaths = _RETRIES
