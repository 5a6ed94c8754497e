"""Embedding on Ray Data: read, decode on CPU tasks, encode on an actor pool, commit through a Datasink."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.data import ActorPoolStrategy
from ray.data.context import AutoscalingConfig

from clipmill.core.errors import RunFailed
from clipmill.core.settings import ClusterSettings
from clipmill.embedding.plan import EmbedPlan
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import Committed, Decoding
from clipmill.encoders.shipping import ship, ship_tokenizer
from clipmill.engine.cluster import Cluster, cause_of, describe_load
from clipmill.engine.embed_stages import CONCURRENT_UNITS, Encoder, UnitSink, UnitSource, decode_block
from clipmill.engine.encoder_pool import EncoderPool, encoder_pool
from clipmill.engine.growth import Growth
from clipmill.engine.metrics import EmbedMetrics
from clipmill.engine.ray_pieces import RayPieces
from clipmill.engine.stop import StopSwitch
from clipmill.engine.watch import Patience, Reported, start_tally, units_under_way, watched
from clipmill.source.grouping import slices
from clipmill.source.units import Units
from clipmill.stage.units.shard_maker import WRITE_CORES

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel

_READ_CPUS = 0.02
_READ_CPUS_GROWING = 0.25
_DECODE_CPUS = 0.45
"""Encoders and one task of each other kind fit into one core together, so the smallest machine cannot starve a stage;
decode and encode ask for different amounts, because stages that ask for the same are fused into one."""
_DEATHS = 3
"""Of one encoder while it loads the model, with none that succeeds meanwhile."""
_RETRIES = 3
"""Of a task: a unit that kills its worker every time ends the run, named."""
_RESTARTS = 100
"""Of an encoder, which on spot machines may lose its node many times in a long run through no fault of its work."""
_GROWS_AT, _SHRINKS_AT = 1.0, 0.5 / CONCURRENT_UNITS
"""Of the places that encoders on GPUs have for units: with all taken, units wait for a GPU and the pool grows; with half a unit
an encoder it shrinks. Ray's own bounds suit actors that work one unit at a time: here they would ask for six decoded units
an encoder before another is started, which are more than a small input has or an object store may hold."""


@dataclass(frozen=True)
class _Graph:
    """What one run of the graph works on. ``shipment`` points to the model (`clipmill.encoders.shipping`), ``tokenizer`` to
    its tokenizer where there are captions."""

    plan: EmbedPlan
    todo: Units
    encoders: EncoderPool
    shipment: Any
    tokenizer: list[Any]
    tally: Any
    switch: StopSwitch = field(default_factory=StopSwitch)

    def run(self) -> list[dict[str, Any]]:
        """Embeds and commits the units; returns the statistics of what each write task wrote. Raises what Ray raises."""
        _set_context(self.switch, self.encoders)
        runs = slices(self.todo, self.plan.inputs, 100_000)
        return [written for one in runs for written in self._execute(self.todo[one])]

    def _execute(self, units: Units) -> list[dict[str, Any]]:
        plan, encoders, settings = self.plan, self.encoders, self.plan.settings
        source = UnitSource(units, plan.inputs, plan.columns)
        sink, decoding = UnitSink(plan.layout, self.tally), Decoding.of(plan)
        dataset = ray.data.read_datasource(
            source,
            override_num_blocks=source.groups,
            **self._reading(source.groups),
        )
        dataset = dataset.map_batches(
            partial(decode_block, decoding=decoding, tokenizer=self.tokenizer, tally=self.tally),
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
                plan.parts.kept,
                plan.parts.thumbnails,
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
        dataset.write_datasink(sink, ray_remote_args={"num_cpus": WRITE_CORES, "max_retries": _RETRIES})
        return sink.written

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


class EmbedOnRay:
    """Drives an embed run on a cluster."""

    def __init__(self, plan: EmbedPlan, model: ClipModel, cluster: Cluster, settings: ClusterSettings) -> None:
        self._plan = plan
        self._pool = encoder_pool(cluster, settings)
        self._tally = start_tally()
        self._patience = Patience.of(cluster, settings)
        texts = plan.columns.caption_column is not None
        self._shipment = ray.put(ship(model, texts=texts))
        self._tokenizer = [ray.put(ship_tokenizer(model))] if texts else []
        self.pieces = RayPieces(cluster, settings.stall_timeout, self._tally, self._patience)

    @property
    def hardware(self) -> dict[str, Any]:
        """As the manifest describes it."""
        return {**self.pieces.hardware, "encoders": self._pool.size}

    def run(self, todo: Units, committed: Committed) -> Statistics:
        """Embeds and commits units. Raises RunFailed when a stage fails for good and when nothing moves, and what
        ``committed`` raises."""
        plan, total, patience = self._plan, Statistics(), replace(self._patience, unplaced=True)
        graph = _Graph(plan, todo, self._pool, self._shipment, self._tokenizer, self._tally)
        metrics = EmbedMetrics(plan.rows, plan.rows - int(todo.rows.sum()), self._pool.size)
        growth = Growth()

        def on_report(reported: Reported) -> None:
            patience.unplaced = not reported.loaded
            if reported.deaths >= _DEATHS:
                raise RunFailed(
                    f"one of the encoders died {reported.deaths} times while they loaded the model; give them more memory, "
                    "or fewer of them (--cpus, --num-gpu-actors), and run the same command again to continue"
                )
            if self._pool.grows:
                growth.look()
            metrics.note(reported.counts)
            committed(reported.units, reported.counts)

        def waiting_for() -> str:
            return f"{_asked_for(self._pool)}{_under_way(graph)}; {describe_load()}"

        try:
            done = watched(graph.run, graph.switch.stop, self._tally, on_report, patience, waiting_for)
        except Exception as error:  # one of ours too: Ray gives it the traceback of its worker
            raise cause_of(error, f"embedding{_under_way(graph)}") from error
        finally:
            metrics.end()
            growth.end()
        for written in done:
            total.add(Statistics.from_dict(written))
        return total


def _asked_for(encoders: EncoderPool) -> str:
    gpus = f" and {encoders.gpus:g} GPUs" if encoders.gpus else ""
    return f"{encoders.size} encoders that ask for {encoders.cpus:g} CPUs{gpus} each"


def _under_way(graph: _Graph) -> str:
    """Where the work stands, in rows of files: the units that were begun most often, since one that kills its worker is
    begun again and again."""
    under_way = units_under_way(graph.tally)
    if not under_way:
        return ""
    most = under_way[0][2]
    worst = [(unit, doing) for unit, doing, times in under_way if times == most][:2]
    places = " or ".join(f"{doing} {_rows_of(graph, unit)}" for unit, doing in worst)
    return f" ({places}{f', tried {most} times' if most > 1 else ''})"


def _rows_of(graph: _Graph, number: int) -> str:
    """The rows of a unit in words."""
    unit = next(iter(graph.todo.take(graph.todo.numbers == number)))
    paths = {file.ordinal: file.path for file in graph.plan.inputs}
    spans = [f"rows {span.start} to {span.stop - 1} of {paths[span.ordinal]}" for span in unit.spans]
    return spans[0] if len(spans) == 1 else f"{spans[0]} and {len(spans) - 1} more runs of rows"


def _set_context(switch: StopSwitch, encoders: EncoderPool) -> None:
    warnings.filterwarnings("ignore", category=ray.util.annotations.RayDeprecationWarning)
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [cast(Any, switch)]
    context.max_consecutive_actor_init_deaths = _RETRIES
    context.autoscaling_config = AutoscalingConfig(_GROWS_AT, _SHRINKS_AT) if encoders.gpus else AutoscalingConfig()
