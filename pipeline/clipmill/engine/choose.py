"""Where work is done: small work in this process, everything else on Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from clipmill.core.gpus import torch_sees_cuda
from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings, Products
from clipmill.engine.device import ON_GPU, check_products, declared, named_cluster
from clipmill.stage.pieces import Pieces
from clipmill.verification.parallel import Looking, Tasks, Threads

_AHEAD = 2
"""Files that are looked through, or wait to be taken, for each core of a cluster."""
SMALL_ROWS = 2_000
"""Inputs of so many rows are embedded in this process: starting a cluster would take longer than the work."""
SMALL_VECTORS = 50_000
"""Galleries of so many vectors are indexed, and compared, in this process: starting a cluster would take longer."""


def runs_here(settings: ClusterSettings, *, small: bool) -> bool:
    """Whether work is done in this process: it is small, and no cluster or GPU actor was asked for, nor a GPU that this
    process does not have.

    A cluster is asked for by ``address`` (``local`` starts one on this machine), by RAY_ADDRESS, which is set inside a
    submitted job, and by a connection that this process has already.
    """
    if not small or settings.address or settings.num_gpu_actors or named_cluster(settings):
        return False
    return declared(settings) != "gpu" or torch_sees_cuda()


def cores_here(settings: ClusterSettings) -> int:
    """Cores that work in this process uses: as many as were asked for, else those that it may run on, since containers
    and schedulers often give fewer than there are."""
    if settings.cpus:
        return settings.cpus
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def pieces_where_named(
    settings: ClusterSettings, stage: str, reporter: Reporter, products: Products = "auto"
) -> Iterator[Pieces]:
    """What does the pieces of a ``stage`` that gains nothing from a cluster on one machine: this process, with all its cores,
    unless a cluster is named."""
    with pieces_for(settings, 0, stage, reporter, products) as (pieces, _):
        yield pieces


@contextmanager
def looking_where_named(
    settings: ClusterSettings, stage: str, reporter: Reporter, *, quick: bool
) -> Iterator[Looking | None]:
    """What looks through files for the length of the block: tasks of a cluster that is named, as many threads as `--cpus`
    says, else None. Nothing is started for a ``quick`` look."""
    if quick or runs_here(settings, small=True):
        yield Threads(settings.cpus) if settings.cpus else None
        return
    with pieces_for(settings, 0, stage, reporter) as (pieces, _):
        yield Tasks(pieces, _AHEAD * max(1, int(pieces.hardware["cpus"])))


@contextmanager
def pieces_for(
    settings: ClusterSettings, vectors: int, stage: str, reporter: Reporter, products: Products = "auto"
) -> Iterator[tuple[Pieces, Reporter]]:
    """What does the pieces of a ``stage`` over so many vectors, for the length of the block, and whom the stage tells how
    far it is: on Ray, its metrics too. With ``products`` on a GPU, one is waited for. Raises UserError where this machine is
    asked for one and has none."""
    on_gpu = check_products(products, settings)
    if on_gpu:
        reporter.message(stage, ON_GPU)
    if runs_here(settings, small=vectors <= SMALL_VECTORS):
        from clipmill.engine.here import Here

        yield Here(cores_here(settings)), reporter
        return
    from clipmill.engine.cluster import cause_of, connect
    from clipmill.engine.metrics import Metered
    from clipmill.engine.ray_pieces import RayPieces
    from clipmill.engine.watch import Patience

    reporter.message(stage, "connecting to Ray")

    def say(text: str) -> None:
        reporter.message(stage, text)

    with connect(settings) as cluster:
        import ray

        from clipmill.engine.arrival import first_node, ready_to_encode

        try:
            if on_gpu:
                settings = settings.model_copy(update={"device": "gpu"})
                ready, _ = ready_to_encode(cluster, settings, say, "comparing vectors")
            else:
                ready = first_node(cluster, settings, say)
            yield RayPieces(ready, settings.stall_timeout, patience=Patience.of(ready, settings)), Metered(reporter)
        except ray.exceptions.RayError as error:
            raise cause_of(error, stage) from error
