"""One run that writes texts: continue what is there, ask what is left, publish. Here, or on Ray, a task for a few units."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipmill.core.reporter import Reporter
from clipmill.core.settings import AskSettings, ClusterSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.engine.choose import cores_here, runs_here
from clipmill.engine.device import declared, device_here
from clipmill.source.listed import part_of
from clipmill.source.planned import find_progress
from clipmill.source.units import Units
from clipmill.stage.pieces import Pieces
from clipmill.stage.stage import Work
from clipmill.stage.units.follow import Following
from clipmill.words.examples import Examples
from clipmill.words.loading import FoundGenerator
from clipmill.words.manifest import finish
from clipmill.words.plan import WordsPlan, followed, pieces_of
from clipmill.words.steps import Job, counts_of, forget, write_units
from clipmill.words.sums import TextSums

if TYPE_CHECKING:
    from clipmill.source.input_file import InputFile

SMALL_ROWS = 200
"""Of so few rows the texts are written in this process: starting a cluster and loading models on it takes longer."""
_UNITS_A_PIECE = 4
"""One task's: what it reads again where its node is lost, and what it waits for at its end."""
_AHEAD = 2
"""Tasks that wait, for each that can be done at once."""


@dataclass(frozen=True)
class _Where:
    """What does the pieces, ``at_once`` of them, with what each asks for."""

    pieces: Pieces
    device: str
    cores: int
    gpus: float
    at_once: int


def write_words(
    plan: WordsPlan,
    found: FoundGenerator,
    examples: Examples,
    settings: ClusterSettings,
    reporter: Reporter,
    work: Work,
) -> TextsManifest:
    """Does what is left of the plan. Raises RunFailed when a piece fails for good, when nothing moves, and when there are too
    many rejects; what was committed is kept, and the same plan continues from it."""
    progress = find_progress(plan, work)
    with _where(plan, found, settings, reporter) as where:
        following = Following(followed(plan, progress), work, where.pieces, reporter)
        run = TextSums()
        if len(progress.todo):
            _write(plan, _job(plan, found, examples, where), progress.todo, where, following, run)
        files, total, seconds = following.finish()
        run.seconds.update({"compact": seconds})
        return finish(plan, progress, files, total, run, where.pieces.hardware)


def _job(plan: WordsPlan, found: FoundGenerator, examples: Examples, where: _Where) -> Job:
    settings = plan.settings
    return Job(
        found=found,
        asking=plan.asking,
        examples=examples,
        columns=plan.columns,
        layout=plan.layout,
        seed=settings.seed,
        batch_size=settings.batch_size,
        precision=settings.precision,
        max_image_pixels=settings.max_image_pixels,
        allowed=settings.allow_outside or (),
        question_column=settings.question_column if isinstance(settings, AskSettings) else None,
        device=where.device,
        threads=where.cores,
    )


def _write(
    plan: WordsPlan, job: Job, todo: Units, where: _Where, following: Following[TextSums], run: TextSums
) -> None:
    """Hands out pieces, a few ahead of those under way, and takes what they count."""
    waiting = deque(pieces_of(todo, _UNITS_A_PIECE if where.at_once > 1 else 1))
    inputs = {file.ordinal: file for file in plan.inputs}
    shared = where.pieces.share(job)

    def start() -> None:
        if waiting:
            units = waiting.popleft()
            files = [_needed(inputs[ordinal], units) for ordinal in sorted(set(units.ordinals.tolist()))]
            what = f"writing about {int(units.rows.sum())} rows of {files[0].path}"
            where.pieces.start(what, write_units, shared, units, files, cores=where.cores, gpus=where.gpus, then=take)

    def take(done: tuple[list[int], TextSums]) -> None:
        numbers, sums = done
        run.add(sums)
        start()
        following.committed(numbers, counts_of(sums))

    for _ in range(where.at_once * _AHEAD):
        start()
    where.pieces.wait()


def _needed(file: InputFile, units: Units) -> InputFile:
    """A source file with no more in memory than these units read of it."""
    of = units.ordinals == file.ordinal
    return part_of(file, int(units.starts[of].min()), int(units.stops[of].max()))


@contextmanager
def _where(plan: WordsPlan, found: FoundGenerator, settings: ClusterSettings, reporter: Reporter) -> Iterator[_Where]:
    if found.is_elsewhere or runs_here(settings, small=plan.rows <= SMALL_ROWS):
        from clipmill.engine.here import Here

        device, why = device_here(settings)
        cores = cores_here(settings)
        reporter.message(plan.name, f"writing about {plan.rows:,} rows in this process, {why}")
        try:
            yield _Where(Here(cores), device, cores, 0, 1)
        finally:
            forget()
        return
    from clipmill.engine.arrival import ready_to_encode
    from clipmill.engine.cluster import cause_of, connect
    from clipmill.engine.ray_pieces import RayPieces
    from clipmill.engine.watch import Patience

    reporter.message(plan.name, "connecting to Ray")
    with connect(settings) as cluster:
        import ray

        try:
            ready, decided = ready_to_encode(
                cluster, settings, lambda text: reporter.message(plan.name, text), "writing texts"
            )
            pieces = RayPieces(ready, settings.stall_timeout, patience=Patience.of(ready, settings))
            yield _placed(pieces, ready, declared(decided), settings)
        except ray.exceptions.RayError as error:
            raise cause_of(error, plan.name) from error


def _placed(pieces: Pieces, cluster: Any, device: str, settings: ClusterSettings) -> _Where:
    """A task a GPU, with a share of its node's cores to prepare pictures with; else a task a node, with all of its cores."""
    cores = max(1, int(cluster.node_cpus))
    if device == "gpu" or (device == "auto" and cluster.gpus > 0):
        each = settings.gpus_per_actor
        a_node = max(1, int(max(cluster.gpus_of_nodes, default=1) / each))
        return _Where(pieces, "cuda", max(1, cores // a_node), each, max(1, int(cluster.gpus / each)))
    return _Where(pieces, "cpu", cores, 0, max(1, int(cluster.cpus // cores)))
