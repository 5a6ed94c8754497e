"""One run that filters captions: choose the threshold, continue what is there, score what is left, publish."""

from __future__ import annotations

from dataclasses import replace

from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings
from clipmill.core.text_manifests import CaptionedManifest, ChosenThreshold
from clipmill.engine.over_units import Where, hand_out, is_small, placed
from clipmill.source.grouping import files_of
from clipmill.source.planned import find_progress
from clipmill.stage.checkpoints import load, save
from clipmill.stage.stage import Work
from clipmill.stage.units.follow import Followed, Following
from clipmill.stage.units.reject_limit import RejectLimit
from clipmill.words.capfilt.manifest import finish
from clipmill.words.capfilt.plan import RecaptionPlan, drawn
from clipmill.words.capfilt.steps import Job, filter_units, find_threshold, forget
from clipmill.words.capfilt.sums import CapfiltSums
from clipmill.words.scorers.finding import FoundScorer

_DOING = "scoring texts of"
DRAWN_ROWS = 1024
"""By whose texts a threshold is chosen: a share of some hundredths is then known to about one."""


def filter_captions(
    plan: RecaptionPlan, found: FoundScorer, settings: ClusterSettings, reporter: Reporter, work: Work
) -> CaptionedManifest:
    """Does what is left of the plan. Raises UserError where no threshold can be chosen, and RunFailed when a piece fails for
    good and when nothing moves; what was committed is kept, and the same plan continues from it."""
    progress = find_progress(plan, work)
    small = is_small(settings, plan.rows)
    with placed(plan.name, plan.rows, settings, reporter, doing=_DOING, small=small, forget=forget) as where:
        job = _job(plan, found, where)
        threshold = _threshold(plan, job, where, reporter, work)
        limit = RejectLimit(None, CapfiltSums, "pictures")
        todo, start = progress.todo, progress.start
        followed = Followed(
            plan.name, plan.layout, limit, plan.rows, start.rows_reused, todo.numbers, progress.finished
        )
        following = Following(followed, work, where.pieces, reporter)
        run = CapfiltSums()
        if len(todo):
            hand_out(
                _DOING, filter_units, replace(job, threshold=threshold.value), todo, plan.inputs, where, following, run
            )
        files, total, seconds = following.finish()
        run.seconds.update({"compact": seconds})
        return finish(plan, progress, threshold, files, total, run, where.pieces.hardware)


def _threshold(plan: RecaptionPlan, job: Job, where: Where, reporter: Reporter, work: Work) -> ChosenThreshold:
    """As it was given, as an earlier start chose it, or chosen now."""
    if plan.threshold is not None:
        return ChosenThreshold(value=plan.threshold)
    place = work.folder / "threshold.npz"
    chosen = load(place, ChosenThreshold)
    if chosen is None:
        reporter.message(plan.name, "choosing the threshold by a sample of the texts")
        units = plan.units.take(drawn(plan.units, DRAWN_ROWS))
        made: list[ChosenThreshold] = []
        files = files_of(units, {file.ordinal: file for file in plan.inputs})
        where.pieces.start(
            "choosing the threshold",
            find_threshold,
            job,
            units,
            files,
            cores=where.cores,
            gpus=where.gpus,
            then=made.append,
        )
        where.pieces.wait()
        (chosen,) = made
        save(place, chosen)
    reporter.message(plan.name, f"texts that score {chosen.value:.4f} or more are kept")
    return chosen


def _job(plan: RecaptionPlan, found: FoundScorer, where: Where) -> Job:
    return Job(
        found=found,
        written=plan.written,
        columns=plan.columns,
        image_column=plan.image_column,
        schema=plan.schema,
        layout=plan.layout,
        max_image_pixels=plan.settings.max_image_pixels,
        allowed=plan.settings.allow_outside or (),
        device=where.device,
        threads=where.cores,
        removed=plan.removed,
    )
