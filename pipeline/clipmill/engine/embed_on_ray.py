"""Embedding on a cluster: its encoders, shared out among slices of the run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray

from clipmill.core.errors import RunFailed
from clipmill.core.settings import ClusterSettings
from clipmill.embedding.plan import EmbedPlan
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import Committed, Decoding
from clipmill.encoders.shipping import ship, ship_tokenizer
from clipmill.engine.cluster import Cluster, describe_load
from clipmill.engine.embed_graph import EmbedGraph
from clipmill.engine.encoder_pool import EncoderPool, encoder_pool
from clipmill.engine.growth import Growth
from clipmill.engine.metrics import EmbedMetrics
from clipmill.engine.ray_pieces import RayPieces
from clipmill.engine.slices import SliceRun, cut, shares
from clipmill.engine.watch import Patience, Reported, start_tally
from clipmill.source.units import Units

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel

_DEATHS = 3
"""Of one encoder while it loads the model, with none that succeeds meanwhile."""


class EmbedOnRay:
    """Drives an embed run on a cluster."""

    def __init__(self, plan: EmbedPlan, model: ClipModel, cluster: Cluster, settings: ClusterSettings) -> None:
        self._plan = plan
        self._pool = encoder_pool(cluster, settings)
        self._drivers = settings.drivers
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
        plan, pool, patience = self._plan, self._pool, replace(self._patience, unplaced=True)
        metrics = EmbedMetrics(plan.rows, plan.rows - int(todo.rows.sum()), pool.size)
        growth = Growth()

        def told(reported: Reported) -> None:
            patience.unplaced = not reported.loaded
            if reported.deaths >= _DEATHS:
                raise RunFailed(
                    f"one of the encoders died {reported.deaths} times while they loaded the model; give them more memory, "
                    "or fewer of them (--cpus, --num-gpu-actors), and run the same command again to continue"
                )
            if pool.grows:
                growth.look()
            metrics.note(reported.counts)
            committed(reported.units, reported.counts)

        slices = cut(todo, plan.inputs, encoders=pool.size, on_gpus=pool.gpus > 0, drivers=self._drivers)
        run = SliceRun(
            graphs=[self._graph(encoders, slices.at_once) for encoders in shares(pool.size, slices.at_once)],
            sums=Statistics,
            units=todo,
            inputs=plan.inputs,
            cut=slices,
            tally=self._tally,
            patience=patience,
            told=told,
            waiting_for=lambda: f"{_asked_for(pool)} ({describe_load()})",
        )
        try:
            return run.run()
        finally:
            metrics.end()
            growth.end()

    def _graph(self, encoders: int, at_once: int) -> EmbedGraph:
        plan = self._plan
        return EmbedGraph(
            columns=plan.columns,
            decoding=Decoding.of(plan),
            layout=plan.layout,
            model_settings=plan.settings.model_settings,
            kept=tuple(plan.parts.kept),
            thumbnails=plan.parts.thumbnails,
            encoders=replace(self._pool, size=encoders),
            shipment=[self._shipment],
            tokenizer=self._tokenizer,
            share=1 / at_once,
        )


def _asked_for(encoders: EncoderPool) -> str:
    gpus = f" and {encoders.gpus:g} GPUs" if encoders.gpus else ""
    return f"{encoders.size} encoders that ask for {encoders.cpus:g} CPUs{gpus} each"
