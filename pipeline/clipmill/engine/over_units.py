"""Runs whose pieces are a few units of rows, with a model of their own: small ones in this process, others on Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings
from clipmill.engine.choose import cores_here, runs_here
from clipmill.engine.device import declared, device_here
from clipmill.source.grouping import files_of
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.pieces import Pieces
from clipmill.stage.units.follow import Following
from clipmill.stage.units.sums import Sums

SMALL_ROWS = 200
"""So few rows are done in this process: starting a cluster and loading models on it takes longer."""
_UNITS_A_PIECE = 4
"""One task's: what it reads again where its node is lost, and what it waits for at its end."""
_AHEAD = 2
"""Tasks that wait, for each that can be done at once."""

Piece = Callable[..., tuple[list[int], Any]]
"""Does some units: ``alive``, the job, the units and their files to their numbers, and what was counted of them."""


@dataclass(frozen=True)
class Where:
    """What does the pieces, ``at_once`` of them, with what each asks for."""

    pieces: Pieces
    device: str
    cores: int
    gpus: float
    at_once: int


def hand_out(
    doing: str,
    piece: Piece,
    job: Any,
    todo: Units,
    files: Sequence[InputFile],
    where: Where,
    following: Following[Any],
    run: Sums,
) -> None:
    """Hands out pieces, a few ahead of those under way, and adds what they count to ``run``. ``doing`` is what they do, in
    words."""
    each = _UNITS_A_PIECE if where.at_once > 1 else 1
    waiting = deque(todo[start : start + each] for start in range(0, len(todo), each))
    shared = where.pieces.share(job)
    inputs = {file.ordinal: file for file in files}

    def start() -> None:
        if waiting:
            units = waiting.popleft()
            needed = files_of(units, inputs)
            what = f"{doing} {int(units.rows.sum())} rows of {needed[0].path}"
            where.pieces.start(what, piece, shared, units, needed, cores=where.cores, gpus=where.gpus, then=take)

    def take(done: tuple[list[int], Any]) -> None:
        numbers, sums = done
        run.add(sums)
        start()
        following.committed(numbers, sums.counts())

    for _ in range(where.at_once * _AHEAD):
        start()
    where.pieces.wait()


@contextmanager
def placed(
    stage: str,
    rows: int,
    settings: ClusterSettings,
    reporter: Reporter,
    *,
    doing: str,
    small: bool,
    forget: Callable[[], None],
    cores: int | None = None,
) -> Iterator[Where]:
    """Where the pieces of a stage are done, for the length of the block. ``forget`` lets the model of this process go;
    ``doing`` is what is done with rows, in words ("writing about"), and ``cores`` what a piece uses on a CPU: all where it is
    None."""
    if small:
        device, why = device_here(settings)
        cores = cores if cores and device == "cpu" else cores_here(settings)
        from clipmill.engine.here import Here

        reporter.message(stage, f"{doing} {rows:,} rows in this process, {why}")
        try:
            yield Where(Here(cores_here(settings)), device, cores, 0, 1)
        finally:
            forget()
        return
    from clipmill.engine.arrival import ready_to_encode
    from clipmill.engine.cluster import cause_of, connect
    from clipmill.engine.ray_pieces import RayPieces
    from clipmill.engine.watch import Patience

    reporter.message(stage, "connecting to Ray")
    with connect(settings) as cluster:
        import ray

        try:
            ready, decided = ready_to_encode(cluster, settings, lambda text: reporter.message(stage, text), doing)
            pieces = RayPieces(ready, settings.stall_timeout, patience=Patience.of(ready, settings))
            yield _on_ray(pieces, ready, declared(decided), settings, cores)
        except ray.exceptions.RayError as error:
            raise cause_of(error, stage) from error


def is_small(settings: ClusterSettings, rows: int) -> bool:
    """Whether so few rows are done in this process."""
    return runs_here(settings, small=rows <= SMALL_ROWS)


def _on_ray(pieces: Pieces, cluster: Any, device: str, settings: ClusterSettings, each: int | None) -> Where:
    """A task a GPU, with a share of its node's cores to prepare pictures with; else tasks with so many cores ``each``,
    one a node with all of its cores where that is None."""
    cores = max(1, int(cluster.node_cpus))
    if device == "gpu" or (device == "auto" and cluster.gpus > 0):
        gpus = settings.gpus_per_actor
        a_node = max(1, int(max(cluster.gpus_of_nodes, default=1) / gpus))
        return Where(pieces, "cuda", max(1, cores // a_node), gpus, max(1, int(cluster.gpus / gpus)))
    taken = each or cores
    return Where(pieces, "cpu", taken, 0, max(1, int(cluster.cpus // taken)))
