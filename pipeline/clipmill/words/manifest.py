"""What is written of texts when all their shards are made: the tables and the manifest."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Run
from clipmill.core.text_manifests import TextCounts, TextsManifest, TextThroughput
from clipmill.datasets.shards import Shard, write_shards
from clipmill.source.planned import Progress, write_inputs
from clipmill.words.plan import WordsPlan
from clipmill.words.sums import TextSums


def finish(
    plan: WordsPlan,
    progress: Progress,
    shards: Sequence[Shard],
    total: TextSums,
    run: TextSums,
    hardware: dict[str, Any],
) -> TextsManifest:
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
    described = {"inputs_digest": plan.inputs_digest, "columns": plan.described_columns, "input": plan.settings.input}
    last = Run(
        started=progress.start.at,
        finished=finished,
        rows_encoded=run.rows,
        rows_reused=progress.start.rows_reused,
    )
    return TextsManifest(
        generator=plan.identity,
        counts=TextCounts(
            rows=total.rows,
            answered=total.answered,
            texts=total.texts,
            tokens=total.tokens,
            prompt_tokens=total.prompt_tokens,
            cut=total.cut,
            rejected_images=total.rejected_images,
            rejected_texts=total.rejected_texts,
            without_image_column=total.without_image_column,
            rejected_by_reason=dict(sorted(total.reasons.items())),
        ),
        configuration={**plan.configuration, **described},
        generated_with=dict(sorted(total.generated_with.items())),
        runs=[*progress.start.earlier, last],
        throughput=TextThroughput(
            wall_seconds=round(wall, 3),
            texts_per_second=round(run.texts / wall, 3) if wall else 0.0,
            tokens_per_second=round(run.tokens / wall, 2) if wall else 0.0,
            stage_seconds={name: round(seconds, 3) for name, seconds in sorted(run.seconds.items())},
        ),
        software=environment.software(),
        hardware=hardware,
        inputs_sha256=write_inputs(plan.inputs, plan.units, {}, dataset),
        shards_sha256=write_shards(dataset, shards),
    )
