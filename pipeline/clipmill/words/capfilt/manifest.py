"""What is written of captioned rows when all their shards are made: the tables and the manifest."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Run
from clipmill.core.text_manifests import CaptionedCounts, CaptionedManifest, ChosenThreshold
from clipmill.datasets.shards import Shard, write_shards
from clipmill.source.planned import Progress, write_inputs
from clipmill.words.capfilt.plan import RecaptionPlan
from clipmill.words.capfilt.sums import CapfiltSums


def finish(
    plan: RecaptionPlan,
    progress: Progress,
    threshold: ChosenThreshold,
    shards: Sequence[Shard],
    total: CapfiltSums,
    run: CapfiltSums,
    hardware: dict[str, Any],
) -> CaptionedManifest:
    """Writes the tables of a dataset whose shards are all made, and returns its manifest. ``total`` counts all runs,
    ``run`` this one."""
    if total.rows != plan.rows:
        raise RunFailed(
            f"the shards hold {total.rows:,} rows and the input {plan.rows:,}: nothing was published; remove "
            f"{plan.staging.folder} and run the same command again"
        )
    start, dataset = progress.start, plan.staging.dataset
    described = {"inputs_digest": plan.inputs_digest, "input": plan.settings.input}
    last = Run(
        started=start.at,
        finished=datetime.now(timezone.utc),
        rows_encoded=run.rows,
        rows_reused=start.rows_reused,
    )
    return CaptionedManifest(
        scorer=plan.identity,
        threshold=threshold,
        counts=CaptionedCounts(
            rows=total.rows,
            captioned=total.captioned,
            originals=total.originals,
            generated=total.generated,
            kept_originals=total.kept_originals,
            kept_generated=total.kept_generated,
            cut=total.cut,
            unreadable=total.unreadable,
            dropped_by_reason=dict(sorted(total.dropped.items())),
        ),
        image_column=plan.image_column,
        configuration={**plan.settings.content(), **described},
        texts=plan.written.location.uri,
        texts_manifest_sha256=plan.written.manifest_sha256,
        scored_with=dict(sorted(total.scored_with.items())),
        runs=[*start.earlier, last],
        stage_seconds={name: round(seconds, 3) for name, seconds in sorted(run.seconds.items())},
        software=environment.software(),
        hardware=hardware,
        inputs_sha256=write_inputs(plan.inputs, plan.units, {}, dataset),
        shards_sha256=write_shards(dataset, shards),
    )
