"""One run that writes texts: continue what is there, ask what is left, publish. Here, or on Ray, a task for a few units."""

from __future__ import annotations

from clipmill.core.reporter import Reporter
from clipmill.core.settings import AskSettings, ClusterSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.engine.over_units import hand_out, is_small, placed
from clipmill.source.planned import find_progress
from clipmill.stage.stage import Work
from clipmill.stage.units.follow import Following
from clipmill.words.examples import Examples
from clipmill.words.loading import FoundGenerator
from clipmill.words.manifest import finish
from clipmill.words.plan import WordsPlan, followed
from clipmill.words.steps import Job, forget, write_units
from clipmill.words.sums import TextSums

_DOING = "writing about"


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
    small = found.is_elsewhere or is_small(settings, plan.rows)
    cores = 1 if found.is_small else None
    with placed(
        plan.name, plan.rows, settings, reporter, doing=_DOING, small=small, forget=forget, cores=cores
    ) as where:
        following = Following(followed(plan, progress), work, where.pieces, reporter)
        run = TextSums()
        if len(progress.todo):
            job = job_of(plan, found, examples, where.device, where.cores)
            hand_out(_DOING, write_units, job, progress.todo, plan.inputs, where, following, run)
        files, total, seconds = following.finish()
        run.seconds.update({"compact": seconds})
        return finish(plan, progress, files, total, run, where.pieces.hardware)


def job_of(plan: WordsPlan, found: FoundGenerator, examples: Examples, device: str, threads: int) -> Job:
    """What every worker of the plan is given."""
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
        device=device,
        threads=threads,
        removed=plan.removed,
    )
