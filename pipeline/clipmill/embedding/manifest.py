"""What is written of an embed run when all its shards are made: the tables and the manifest."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import (
    CLIPS_VERSION,
    EMBEDDINGS_VERSION,
    FRAMES_VERSION,
    ClipCounts,
    Counts,
    EmbeddingsManifest,
    Run,
    Throughput,
)
from clipmill.datasets.shards import Shard, write_shards
from clipmill.embedding.limits import limits_of
from clipmill.embedding.parity import parity_of
from clipmill.embedding.plan import EmbedPlan, describe_columns
from clipmill.embedding.statistics import Statistics
from clipmill.source.media import MEDIA
from clipmill.source.planned import Progress, write_inputs, write_listing


def finish(
    plan: EmbedPlan,
    progress: Progress,
    shards: Sequence[Shard],
    total: Statistics,
    run: Statistics,
    hardware: dict[str, Any],
) -> EmbeddingsManifest:
    """Writes the tables of a dataset whose shards are all made, and returns its manifest. ``total`` counts all runs,
    ``run`` this one."""
    if total.rows != plan.rows:
        raise RunFailed(
            f"the shards hold {total.rows:,} rows and the input {plan.rows:,}: nothing was published; remove "
            f"{plan.staging.folder} and run the same command again"
        )
    finished = datetime.now(timezone.utc)
    wall = (finished - progress.start.at).total_seconds()
    dataset = plan.staging.dataset
    inputs_sha256 = write_inputs(plan.inputs, plan.units, total.captions_by_file, dataset)
    precisions = {how.split()[1] for how in run.encoded_with}
    decodes = plan.settings.decode == "gpu"
    gpus = bool(hardware["gpus"])
    limits = limits_of(run, wall, hardware["encoders"], gpus=gpus, precisions=precisions, decodes=decodes)
    return EmbeddingsManifest(
        schema_version=_version(plan),
        model=plan.identity,
        dimension=plan.identity.dimension,
        counts=_counts(plan, total),
        configuration=described(plan),
        encoded_with=dict(sorted(total.encoded_with.items())),
        kept_columns=[field.name for _, field in plan.columns.kept],
        runs=[
            *progress.start.earlier,
            Run(
                started=progress.start.at,
                finished=finished,
                rows_encoded=run.rows,
                rows_reused=progress.start.rows_reused,
                limited_by=limits.stage,
                encoder_busy=limits.encoder_busy,
                advice=limits.advice,
            ),
        ],
        truncated_captions=total.truncated_captions or None,
        parity=parity_of(total),
        throughput=_throughput(run, wall, hardware),
        software=environment.software(),
        hardware=hardware,
        inputs_sha256=inputs_sha256,
        shards_sha256=write_shards(dataset, shards),
        listing_sha256=write_listing(plan.inputs, plan.units, dataset),
    )


def _version(plan: EmbedPlan) -> int:
    """The oldest whose readers understand the dataset."""
    if plan.keeps_frames:
        return FRAMES_VERSION
    return CLIPS_VERSION if plan.columns.clips else EMBEDDINGS_VERSION


def _counts(plan: EmbedPlan, total: Statistics) -> Counts:
    return Counts(
        rows=total.rows,
        images=total.images,
        captions=total.captions,
        rejected_images=total.rejected_images,
        rejected_captions=total.rejected_captions,
        without_image_column=total.without_image_column,
        rejected_by_reason=dict(sorted(total.reasons.items())),
        clips=_clip_counts(plan, total),
    )


def _clip_counts(plan: EmbedPlan, total: Statistics) -> dict[str, ClipCounts]:
    found = {}
    for medium in plan.columns.clips:
        part = MEDIA[medium].part
        embedded, rejected = getattr(total, part), getattr(total, f"rejected_{part}")
        without = total.rows - embedded - rejected
        frames = total.kept_frames if medium == "video" and plan.keeps_frames else None
        found[part] = ClipCounts(embedded=embedded, rejected=rejected, without_column=without, kept_frames=frames)
    return found


def described(plan: EmbedPlan) -> dict[str, Any]:
    """The configuration as a manifest has it: the settings that decide the content, and which input that was."""
    return {
        **plan.configuration,
        "inputs_digest": plan.inputs_digest,
        "columns": describe_columns(plan.columns),
        "input": plan.settings.input,
    }


def _throughput(run: Statistics, wall: float, hardware: dict[str, Any]) -> Throughput:
    cpu = run.seconds["cpu"]
    rate = run.images / wall if wall else 0.0
    return Throughput(
        wall_seconds=round(wall, 3),
        images_per_second=round(rate, 2),
        images_per_second_per_core=round(rate / hardware["cpus"], 2) if hardware["cpus"] else None,
        images_per_second_per_gpu=round(rate / hardware["gpus"], 2) if hardware["gpus"] else None,
        captions_per_second=round(run.captions / wall, 2) if wall else 0.0,
        images_per_cpu_second=round(run.images / cpu, 2) if cpu else 0.0,
        stage_seconds={name: round(seconds, 3) for name, seconds in sorted(run.seconds.items())},
    )
