"""One embed run on a cluster: continue what is there, do what is left, publish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray

from clipmill import storage
from clipmill.core import environment, events
from clipmill.core.errors import RunFailed
from clipmill.core.schemas import EmbeddingsManifest
from clipmill.core.settings import ClusterSettings
from clipmill.embed.compact import gather_records, statistics_of
from clipmill.embed.manifest import finish
from clipmill.embed.plan import EmbedPlan, open_staging
from clipmill.embed.reject_limit import RejectLimit
from clipmill.embed.statistics import Statistics
from clipmill.engine.cluster import Cluster, cause_of, describe_load
from clipmill.engine.embed_graph import EmbedGraph
from clipmill.engine.embed_stages import counts_of
from clipmill.engine.encoder_pool import EncoderPool, encoder_pool
from clipmill.engine.metrics import EmbedMetrics, rejects_by_reason
from clipmill.engine.shard_maker import ShardMaker
from clipmill.engine.tasks import Tasks
from clipmill.engine.watch import Reported, start_tally, units_under_way, watched
from clipmill.source.units import Units
from clipmill.storage.lease import owned

if TYPE_CHECKING:
    from clipmill.encoders.shipping import Shipment


def embed(
    plan: EmbedPlan,
    shipment: Shipment,
    cluster: Cluster,
    settings: ClusterSettings,
    on_progress: Callable[[int], None],
    on_found_done: Callable[[int], None] = lambda rows: None,
) -> EmbeddingsManifest:
    """Does what is left of the plan and publishes the dataset. ``on_progress`` is given numbers of rows as they are done,
    ``on_found_done`` once how many were done before.

    Raises RunFailed when a stage fails for good, when nothing moves, and when there are too many rejects; what was
    committed is kept and the same plan continues from it.
    """
    limit = RejectLimit(plan.settings.max_rejects)
    with owned(storage.staging_of(plan.output)) as ownership:
        progress = open_staging(plan)
        on_found_done(progress.start.rows_reused)
        counts = Counter(
            counts_of(statistics_of(plan.layout, progress.finished) if limit.most is not None else Statistics())
        )
        limit.check(counts)
        encoders = encoder_pool(cluster, settings)
        tally = start_tally()
        shards = ShardMaker(plan.layout, progress.todo, Tasks(settings.stall_timeout, tally))
        statistics = Statistics()
        metrics = EmbedMetrics(plan.rows, progress.start.rows_reused, encoders.size)
        rejects = events.Steps("rejects")

        def on_report(reported: Reported) -> None:
            if ownership.lost:
                ownership.check()
            metrics.note(reported.counts)
            if reported.units:
                on_progress(reported.counts["rows"])
                shards.note(reported.units)
                counts.update(reported.counts)
                if reasons := rejects_by_reason(counts):
                    rejects.note(stage="embed", by_reason=reasons)
                limit.check(counts)

        if len(progress.todo):
            graph = EmbedGraph(plan, progress.todo, encoders, ray.put(shipment), tally)
            for done in _run(graph, on_report, settings.stall_timeout):
                statistics.add(Statistics.from_dict(done))
        metrics.end()
        rejects.end()
        shards.finish()
        statistics.add(Statistics(seconds=Counter({"compact": shards.seconds})))
        files, total = gather_records(plan.layout)
        limit.check(Counter(counts_of(total)), all_done=True)
        hardware = {**environment.hardware(), "cpus": cluster.cpus, "gpus": cluster.gpus, "nodes": cluster.nodes}
        manifest = finish(plan, progress, files, total, statistics, {**hardware, "encoders": encoders.size})
        ownership.check()
        plan.staging.publish()
        return manifest


def _run(graph: EmbedGraph, on_report: Callable[[Reported], None], stall_timeout: float) -> list[dict[str, Any]]:
    def judge(reported: Reported) -> None:
        if reported.vain_starts > 2 * graph.encoders.size:
            raise RunFailed(
                f"the encoders died {reported.vain_starts} times while they loaded the model; give them more memory, or "
                "fewer of them (--cpus, --num-gpu-actors), and run the same command again to continue"
            )
        on_report(reported)

    def waiting_for() -> str:
        return f"{_asked_for(graph.encoders)}{_under_way(graph)}; {describe_load()}"

    try:
        done: list[dict[str, Any]] = watched(graph.run, graph.stop, graph.tally, judge, stall_timeout, waiting_for)
        return done
    except Exception as error:  # one of ours too: Ray gives it the traceback of its worker
        raise cause_of(error, f"embedding{_under_way(graph)}") from error


def _asked_for(encoders: EncoderPool) -> str:
    gpus = f" and {encoders.gpus:g} GPUs" if encoders.gpus else ""
    return f"{encoders.size} encoders that ask for {encoders.cpus:g} CPUs{gpus} each"


def _under_way(graph: EmbedGraph) -> str:
    """Where the work stands, in rows of files: the units that were begun most often, since one that kills its worker is
    begun again and again."""
    under_way = units_under_way(graph.tally)
    if not under_way:
        return ""
    most = under_way[0][2]
    worst = [(unit, doing) for unit, doing, times in under_way if times == most][:2]
    places = " or ".join(f"{doing} {rows_of(graph.plan, graph.todo, unit)}" for unit, doing in worst)
    return f" ({places}{f', tried {most} times' if most > 1 else ''})"


def rows_of(plan: EmbedPlan, units: Units, number: int) -> str:
    """The rows of a unit in words."""
    unit = next(iter(units.take(units.numbers == number)))
    paths = {file.ordinal: file.path for file in plan.inputs}
    spans = [f"rows {span.start} to {span.stop - 1} of {paths[span.ordinal]}" for span in unit.spans]
    return spans[0] if len(spans) == 1 else f"{spans[0]} and {len(spans) - 1} more runs of rows"
