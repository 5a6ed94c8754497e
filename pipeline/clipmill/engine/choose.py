"""Where work is done: small work in this process, everything else on Ray."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings
from clipmill.stage.pieces import Pieces

SMALL_ROWS = 2_000
"""Inputs of so many rows are embedded in this process: starting a cluster would take longer than the work."""
SMALL_VECTORS = 50_000
"""Galleries of so many vectors are indexed, and compared, in this process: starting a cluster would take longer."""


def runs_here(settings: ClusterSettings, *, small: bool) -> bool:
    """Whether work is done in this process: it is small, and no cluster or GPU actor was asked for.

    A cluster is asked for by ``address`` (``local`` starts one on this machine), by RAY_ADDRESS, which is set inside a
    submitted job, and by a connection that this process has already.
    """
    ray = sys.modules.get("ray")
    named = settings.address or os.environ.get("RAY_ADDRESS") or settings.num_gpu_actors
    return small and not named and not (ray is not None and ray.is_initialized())


def cores_here(settings: ClusterSettings) -> int:
    """Cores that work in this process uses: as many as were asked for, else those that it may run on, since containers
    and schedulers often give fewer than there are."""
    if settings.cpus:
        return settings.cpus
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def pieces_for(
    settings: ClusterSettings, vectors: int, stage: str, reporter: Reporter
) -> Iterator[tuple[Pieces, Reporter]]:
    """What does the pieces of a ``stage`` over so many vectors, for the length of the block, and whom the stage tells how
    far it is: on Ray, its metrics too."""
    if runs_here(settings, small=vectors <= SMALL_VECTORS):
        from clipmill.engine.here import Here

        yield Here(cores_here(settings)), reporter
        return
    from clipmill.engine.cluster import cause_of, connect
    from clipmill.engine.metrics import Metered
    from clipmill.engine.ray_pieces import RayPieces

    reporter.message(stage, "connecting to Ray")
    with connect(settings) as cluster:
        import ray

        try:
            yield RayPieces(cluster, settings.stall_timeout), Metered(reporter)
        except ray.exceptions.RayError as error:
            raise cause_of(error, stage) from error
