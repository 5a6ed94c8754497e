"""clipmill status: how a running or finished run stands, from another shell."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import EmbeddingsManifest, IndexManifest, SelectionManifest, SourceManifest
from clipmill.core.text_manifests import CaptionedManifest, TextsManifest
from clipmill.datasets.manifests import AnyManifest, find_manifest
from clipmill_jobs.command import Job, print_json

if TYPE_CHECKING:
    from clipmill.runs.status import RunStatus
    from clipmill.stage.status import WorkStatus
    from clipmill.storage.lease import Holder


@click.command("status", cls=Job, doing="reading what is at the output")
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(output: str, as_json: bool) -> None:
    """Say how the work towards an OUTPUT stands: of `clipmill run`, or of one dataset.

    Looks at what is on the storage and at nothing else, so it works from any machine that sees it, while a run goes on,
    after it was killed, and when it has finished.

    \b
    Examples:
      clipmill status out/nightly
      clipmill status s3://bucket/laion-b32/ --json
    """
    from clipmill.runs.status import run_status
    from clipmill.stage.status import work_towards
    from clipmill.versions.place import Place

    location = storage.resolve(output)
    manifest = find_manifest(location)
    work = work_towards(location)
    run = run_status(Place.of(output)) if manifest is None else None
    if manifest is None and not work and not (run and run.anything):
        raise UserError(f"{location}: nothing was made there, and nothing is going on; is it the --output of a run?")
    if as_json:
        print_json(_document(output, manifest, work, run))
        return
    if manifest is not None:
        click.echo(f"finished: {_finished(manifest)}")
    for one in work:
        click.echo(_unfinished(one))
    if run is not None and run.anything:
        _print_run(run)


def _document(
    output: str, manifest: AnyManifest | None, work: list[WorkStatus], run: RunStatus | None
) -> dict[str, Any]:
    everything = [*work, *(run.work if run else [])]
    running = any(one.running for one in everything) or bool(run and run.running)
    unfinished = bool(everything) or bool(run and run.making)
    return {
        "output": output,
        "state": "running" if running else "unfinished" if unfinished else "finished",
        "work": [one.as_dict() for one in everything],
        "finished": _summary(manifest) if manifest else None,
        "version": run.published.model_dump(mode="json") if run and run.published else None,
        "making": run.making if run else None,
        "last_run": run.last.model_dump(mode="json") if run and run.last else None,
    }


def _summary(manifest: AnyManifest) -> dict[str, Any]:
    """A manifest's own numbers, without what it takes to make the dataset again."""
    left_out = {"configuration", "software", "model", "front", "schema_version", "files"}
    return manifest.model_dump(mode="json", exclude=left_out)


def _finished(manifest: AnyManifest) -> str:
    ended = manifest.runs[-1].finished if manifest.runs else None
    when = f", {ended:%Y-%m-%d %H:%M} UTC" if ended else ""
    if isinstance(manifest, EmbeddingsManifest):
        counts = manifest.counts
        speed = f"; {manifest.throughput.images_per_second:,.1f} images/s" if manifest.model else ", made elsewhere"
        rejected = counts.rejected
        return f"{counts.in_words} of {counts.rows:,} rows, {rejected:,} rejected{speed}{when}"
    if isinstance(manifest, IndexManifest):
        recall = manifest.measured_recall
        met = f" (below the target of {manifest.target_recall:g})" if manifest.target_met is False else ""
        return (
            f"{manifest.factory} over {manifest.n:,} {manifest.gallery} in {manifest.shards:,} shards, "
            f"recall {recall.value:.4f} on {manifest.asked_with}{met}{when}"
        )
    if isinstance(manifest, SelectionManifest):
        return f"{manifest.kept:,} of {manifest.rows:,} rows kept{when}"
    if isinstance(manifest, SourceManifest):
        return f"{manifest.rows:,} rows and {manifest.captions:,} captions in {len(manifest.files):,} files{when}"
    if isinstance(manifest, TextsManifest):
        written = manifest.counts
        rejected = written.rejected_images + written.rejected_texts
        return f"{written.texts:,} texts about {written.answered:,} of {written.rows:,} pictures, {rejected:,} rejected{when}"
    if isinstance(manifest, CaptionedManifest):
        kept = manifest.counts.kept_originals + manifest.counts.kept_generated
        dropped = sum(manifest.counts.dropped_by_reason.values())
        pictures = f"{manifest.counts.captioned:,} of {manifest.counts.rows:,} pictures"
        return f"{kept:,} texts of {pictures} kept, {dropped:,} dropped{when}"
    found = f", {manifest.method}: {manifest.recall_in_words}" if manifest.recall is not None else ""
    return f"{manifest.pairs:,} pairs in {manifest.groups:,} groups of near-duplicates{found}{when}"


def _unfinished(work: WorkStatus) -> str:
    state = "running" if work.running else "stopped"
    share = f" {work.done / work.planned:.0%}" if work.planned else ""
    said = f"{state}:{share} {work.stage} {work.output}, {work.doing}"
    if work.unit == "rows" and work.planned:
        said += f"; {work.done:,} of {work.planned:,} rows"
    if work.rate:
        said += f", {work.rate:,.1f} rows/s"
    if work.seconds_left is not None:
        said += f", about {_duration(work.seconds_left)} left"
    if work.holder is not None:
        said += f"; {_named(work.holder)}"
    if work.moved is not None:
        said += f"; last written {_duration((datetime.now(timezone.utc) - work.moved).total_seconds())} ago"
    return said if work.running else f"{said}; run the same command again to continue"


def _named(holder: Holder) -> str:
    who = f"process {holder.process} on {holder.host}"
    return (
        who if holder.alive else f"{who} has exited, or has given no sign of life for {_duration(holder.renewed_ago)}"
    )


def _print_run(run: RunStatus) -> None:
    from clipmill.report.plan_lines import plan_lines

    if run.published is not None:
        one = run.published
        click.echo(f"published: version {one.name}, {one.counts.images:,} images, {one.counts.captions:,} captions")
        for line in plan_lines(one.plan) if one.plan else ():
            click.echo(f"  {line}")
    else:
        click.echo("published: nothing yet")
    if run.holder is not None:
        click.echo(f"{'running' if run.running else 'stopped'}: {_named(run.holder)}")
    if run.making is not None:
        click.echo(f"being made: version {run.making}")
    for work in run.work:
        click.echo(f"  {_unfinished(work)}")
    if run.last is not None:
        last = run.last
        why = f": {last.error}" if last.error else ""
        click.echo(
            f"last run: {last.status} (exit code {last.exit_code}) at {last.finished:%Y-%m-%d %H:%M} UTC after "
            f"{_duration(last.seconds)}{why}"
        )
        for stage in last.stages:
            click.echo(f"  {stage.name:9} {stage.status:8} {_duration(stage.seconds)}")


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    command()
