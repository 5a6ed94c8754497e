"""clipmill embed: source Parquet to an embeddings dataset."""

import logging
from typing import Any

import click

from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.settings import ClusterSettings, EmbedSettings
from clipmill.runs.stages import embed_stage
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current

_LOG = logging.getLogger("clipmill.embedding")


@click.command("embed", cls=Job, doing="reading the list of input files")
@settings_options(settings=EmbedSettings, cluster=ClusterSettings)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest (with --dry-run: the plan) as JSON.")
def command(settings: EmbedSettings, cluster: ClusterSettings, dry_run: bool, as_json: bool) -> None:
    """Embed the images and captions of Parquet files with a CLIP model.

    Run it again after an interruption: it continues. Every input row ends as one embedded image or one reject with its
    reason; broken images never stop the run.

    \b
    Examples:
      clipmill embed --input photos/ --output embeddings/
      clipmill embed --input s3://bucket/laion/ --output s3://bucket/laion-b32/ \\
                     --model ViT-B-32 --pretrained laion2b_s34b_b79k
    """
    if dry_run:
        from clipmill.embedding.plan import describe, find_source
        from clipmill.runs.stages import plan_embed

        plan, _ = plan_embed(settings, find_source(settings, keep=False), current())
        _print_plan(describe(plan), plan.finished() is not None, as_json)
        return
    made = embed_stage(settings, cluster, current())
    manifest, already = made.manifest, made.already
    _print_result(manifest, settings.output, as_json, already=already)


def _print_plan(plan: dict[str, Any], complete: bool, as_json: bool) -> None:
    if as_json:
        print_json({**plan, "already_complete": complete})
        return
    for key, value in plan.items():
        click.echo(f"{key.replace('_', ' '):16} {value}")
    if complete:
        click.echo("the output is already complete: nothing would be done")


def _print_result(manifest: EmbeddingsManifest, uri: str, as_json: bool, *, already: bool) -> None:
    if as_json:
        print_json({"output": uri, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    counts = manifest.counts
    if already:
        click.echo(
            f"{uri} is already complete: {', '.join(f'{count:,} {what}' for what, count in counts.embedded.items())}"
        )
        return
    click.echo(f"{uri}: {counts.in_words} of {counts.rows:,} rows embedded")
    if counts.rejected_by_reason:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected_by_reason.items())
        click.echo(f"rejected: {reasons} (see {uri}/rejected)")
    speed = manifest.throughput
    click.echo(
        f"{speed.images_per_second:,.1f} images/s, {speed.images_per_cpu_second:,.1f} per CPU second; limited by "
        f"{manifest.runs[-1].limited_by}"
    )
    _print_limits(manifest)


def _print_limits(manifest: EmbeddingsManifest) -> None:
    """How busy the encoders were, what would be faster, and how far a faster precision is from float32."""
    from clipmill.embedding.parity import BAR

    run, speed = manifest.runs[-1], manifest.throughput
    if run.encoder_busy is not None:
        each = [f"{speed.images_per_second_per_gpu:,.1f} images/s per GPU"] if speed.images_per_second_per_gpu else []
        each += [f"{speed.images_per_second_per_core:,.1f} per core"] if speed.images_per_second_per_core else []
        click.echo(f"encoders busy {run.encoder_busy:.0%} of the time; {', '.join(each)}")
    if run.advice:
        click.echo(f"what would make it faster: {run.advice}")
    if manifest.truncated_captions:
        click.echo(f"{manifest.truncated_captions:,} captions are longer than the model reads, and were cut there")
    if manifest.parity:
        least, mean = manifest.parity["minimum_cosine"], manifest.parity["mean_cosine"]
        click.echo(
            f"against fp32: cosine {least:.5f} at least, {mean:.5f} on average, of {manifest.parity['images']:.0f} images"
        )
        if least < BAR:
            _LOG.warning("a cosine below %s; embed with --precision fp32 where it matters", BAR)


if __name__ == "__main__":
    command()
