"""clipmill embed: source Parquet to an embeddings dataset."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from clipmill.core.schemas import EmbeddingsManifest
from clipmill.core.settings import ClusterSettings, EmbedSettings, build
from clipmill_jobs.command import (
    Job,
    cluster_options,
    encoder_options,
    import_meanwhile,
    model_options,
    print_json,
    progress,
    say,
    split_options,
)

if TYPE_CHECKING:
    from clipmill.embed.plan import EmbedPlan, EmbedSource
    from clipmill.encoders.model import ClipModel


@click.command("embed", cls=Job)
@click.option("--input", required=True, help="Parquet file, folder, glob or prefix; local or s3://.")
@click.option("--output", required=True, help="Where the embeddings dataset is published.")
@model_options
@click.option("--image-column", help="Default: found by its name and type.")
@click.option("--caption-column", help="Default: found by its name and type.")
@click.option("--id-column", help="Default: id, key, uid, image_id …; without one, ids are made from file and row.")
@click.option("--keep-columns", help="Columns to carry along, separated by commas. Default: every scalar column.")
@click.option("--limit", type=int, help="Embed the first rows of the input only.")
@click.option("--thumbnails", type=int, metavar="PX", help="Keep a JPEG of each image, its longer side this long.")
@click.option("--max-image-pixels", type=int, help="Larger images are rejected unread. Default: 178956970.")
@click.option(
    "--corrupt",
    metavar="KIND:STRENGTH",
    help="Make every picture worse first, to measure robustness: blur, noise, jpeg, brightness, crop, rotation or "
    "greyscale, at a strength from 1 to 5 (blur:2).",
)
@click.option(
    "--max-rejects",
    metavar="N|SHARE",
    help="End the run when more images and captions than this are rejected: a number (500) or a share (0.01, 1%).",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a finished output, once the new one is complete; drop unfinished work of other settings.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest (with --dry-run: the plan) as JSON.")
@cluster_options
@encoder_options
def command(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Embed the images and captions of Parquet files with a CLIP model.

    Run it again after an interruption: it continues. Every input row ends as one embedded image or one reject with its
    reason; broken images never stop the run.

    \b
    Examples:
      clipmill embed --input photos/ --output embeddings/
      clipmill embed --input s3://bucket/laion/ --output s3://bucket/laion-b32/ \\
                     --model ViT-B-32 --pretrained laion2b_s34b_b79k
    """
    cluster_values, values = split_options(options)
    if values["max_image_pixels"] is None:
        del values["max_image_pixels"]
    settings = build(EmbedSettings, values)
    cluster_settings = build(ClusterSettings, cluster_values)

    if dry_run:
        from clipmill.embed.plan import describe, finished

        plan, _ = plan_embed(settings)
        _print_plan(describe(plan), finished(plan) is not None, as_json)
        return
    manifest, already = embed_stage(settings, cluster_settings)
    _print_result(manifest, settings.output, as_json, already=already)


def plan_embed(settings: EmbedSettings, source: "EmbedSource | None" = None) -> "tuple[EmbedPlan, ClipModel]":
    """What embedding with these settings will do, and the model, which is loaded here and nowhere else."""
    from clipmill.embed.plan import find_source, make_plan

    source = source or find_source(settings)  # first: what is wrong with the input is told before torch is imported
    from clipmill.encoders.model import load_model

    model = load_model(settings.model_settings, device="cpu")
    return make_plan(settings, source, model.identity, model.preprocessing), model


def embed_stage(settings: EmbedSettings, cluster_settings: ClusterSettings) -> tuple[EmbeddingsManifest, bool]:
    """The manifest of the embeddings, and whether they were there already; progress goes to stderr."""
    from clipmill.embed.plan import find_source, has_output
    from clipmill.engine.cluster import connect

    source = find_source(settings)
    with ExitStack() as stack:
        if settings.overwrite or not has_output(settings):
            # Starting Ray is mostly waiting, and takes about as long.
            import_meanwhile("clipmill.engine.embed", "clipmill.encoders.model")
            stack.enter_context(connect(cluster_settings))
        return embed_planned(*plan_embed(settings, source), cluster_settings)


def embed_planned(
    plan: "EmbedPlan", model: "ClipModel", cluster_settings: ClusterSettings
) -> tuple[EmbeddingsManifest, bool]:
    """The manifest of what this plan makes, and whether it was there already; progress goes to stderr."""
    from clipmill.embed.plan import finished
    from clipmill.encoders.shipping import ship
    from clipmill.engine.cluster import connect
    from clipmill.engine.embed import embed

    manifest = finished(plan)
    if manifest is not None:
        plan.staging.drop_leftovers()
        return manifest, True
    if not plan.settings.overwrite:
        plan.staging.refuse_others()
    with connect(cluster_settings) as cluster, progress(plan.rows, "rows", "embed") as on_progress:
        if cluster_settings.num_gpu_actors and not cluster.gpus:
            say("embed", "the cluster has no GPU now; --num-gpu-actors waits for one")
        return embed(plan, ship(model), cluster, cluster_settings, on_progress, on_progress.found_done), False


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
        click.echo(f"{uri} is already complete: {counts.images:,} images, {counts.captions:,} captions")
        return
    click.echo(f"{uri}: {counts.images:,} images and {counts.captions:,} captions of {counts.rows:,} rows embedded")
    if counts.rejected_by_reason:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected_by_reason.items())
        click.echo(f"rejected: {reasons} (see {uri}/rejected)")
    speed = manifest.throughput
    click.echo(
        f"{speed.images_per_second:,.1f} images/s, {speed.images_per_cpu_second:,.1f} a CPU second; limited by "
        f"{manifest.runs[-1].limited_by}"
    )
    _print_limits(manifest)


def _print_limits(manifest: EmbeddingsManifest) -> None:
    """How busy the encoders were, what would be faster, and how far a faster precision is from float32."""
    from clipmill.embed.parity import BAR

    run, speed = manifest.runs[-1], manifest.throughput
    if run.encoder_busy is not None:
        each = [f"{speed.images_per_second_per_gpu:,.1f} images/s a GPU"] if speed.images_per_second_per_gpu else []
        each += [f"{speed.images_per_second_per_core:,.1f} a core"] if speed.images_per_second_per_core else []
        click.echo(f"encoders busy {run.encoder_busy:.0%} of the time; {', '.join(each)}")
    if run.advice:
        click.echo(f"to be faster: {run.advice}")
    if manifest.parity:
        least, mean = manifest.parity["minimum_cosine"], manifest.parity["mean_cosine"]
        click.echo(
            f"against fp32: cosine {least:.5f} at least, {mean:.5f} on average, of {manifest.parity['images']:.0f} images"
        )
        if least < BAR:
            click.echo(f"warning: that is below {BAR}; embed with --precision fp32 where it matters", err=True)


if __name__ == "__main__":
    command()
