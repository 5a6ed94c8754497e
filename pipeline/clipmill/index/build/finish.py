"""Building an index, after the work: its list of files and its manifest."""

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from clipmill import storage
from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import (
    GALLERY_VECTORS,
    INDEX_VERSION,
    INDEX_WITH_REFERENCES,
    INDEX_WITH_TRANSFORM,
    SCHEMA_VERSION,
    IndexManifest,
    RerankVectors,
    Run,
)
from clipmill.datasets.shards import Shard, write_shards
from clipmill.index.build.attempts import missed_before
from clipmill.index.build.build import Build
from clipmill.index.build.unfinished import Drawn, Progress, Trained, Tuned, Unfinished, read_filled, resident_bytes
from clipmill.stage.checkpoints import load

_LOG = logging.getLogger(__name__)


def finish_index(build: Build, progress: Progress, trained: Trained, hardware: dict[str, Any]) -> IndexManifest:
    """Writes the list of files of an index that is made whole, and returns its manifest.

    Raises RunFailed when a part is missing after all, or belongs to another training.
    """
    place = Unfinished(build)
    shards = read_filled(place, trained)
    drawn, tuned = load(place.queries, Drawn), load(place.operation, Tuned)
    if drawn is None or tuned is None:
        raise RunFailed(f"parts of {build.staging.folder} are gone; run the same command again to make them anew")
    _refuse_other_training(place, trained, tuned)
    seconds = {
        "queries": drawn.seconds,
        "train": trained.seconds,
        "exact search": tuned.exact_seconds,
        "fill": sum(shard.seconds for shard in shards),
        "tune": tuned.seconds,
    }
    dataset, files = build.gallery.dataset, [file for shard in shards for file in shard.filled.files]
    manifest = IndexManifest(
        schema_version=_version(build, trained, files),
        model=dataset.manifest.model,
        dimension=build.gallery.dimension,
        n=build.gallery.n,
        gallery=build.gallery.part,
        shards=len(build.places),
        factory=build.plan.factory,
        why=build.plan.why,
        tried=missed_before(build),
        exact=build.plan.exact,
        k=build.settings.k,
        target_recall=build.settings.target_recall,
        target_met=_target_met(drawn.queries.kind, met=tuned.operation.met),
        operating_point=tuned.operation.point,
        front=tuned.operation.front,
        promises=tuned.promises,
        query_kind=drawn.queries.kind,
        memory=resident_bytes(trained, shards, build.gallery.dimension).as_dict(),
        configuration=build.configuration,
        kept_columns=build.gallery.kept_columns,
        embeddings=dataset.location.uri,
        embeddings_manifest_sha256=dataset.manifest_sha256,
        trained_sha256=trained.sha256,
        query_transform=trained.query_transform,
        rerank_vectors=RerankVectors(
            kind=build.rerank_kind, ranges_sha256=trained.ranges_sha256, recall=tuned.of_vectors
        ),
        shards_sha256=write_shards(place.dataset, files),
        runs=[*progress.start.earlier, _run(build, progress, seconds)],
        stage_seconds={stage: round(taken, 3) for stage, taken in seconds.items()},
        software=environment.software(),
        hardware=hardware,
    )
    warn_of_queries(manifest)
    return manifest


def _run(build: Build, progress: Progress, seconds: dict[str, float]) -> Run:
    return Run(
        started=progress.start.at,
        finished=datetime.now(timezone.utc),
        rows_encoded=build.gallery.n - progress.start.rows_reused,
        rows_reused=progress.start.rows_reused,
        limited_by=max(seconds, key=lambda stage: seconds[stage]),
    )


def _version(build: Build, trained: Trained, files: Sequence[Shard]) -> int:
    """The oldest whose readers understand the index."""
    if any(file.version is not None for file in files):
        return INDEX_WITH_REFERENCES
    if build.rerank_kind != "float16":
        return INDEX_VERSION
    return INDEX_WITH_TRANSFORM if trained.query_transform else SCHEMA_VERSION


def _refuse_other_training(place: Unfinished, trained: Trained, tuned: Tuned) -> None:
    """A worker that was taken for dead may have trained and tuned meanwhile."""
    for name, expected in trained.files.items():
        file = place.dataset / name
        found = storage.sha256(file) if storage.exists(file) else None
        if found != expected or tuned.trained_sha256 != trained.sha256:
            raise RunFailed(
                f"{file} is gone, or not of the training that the shards were filled from and the index was tuned with; run "
                "the same command again to make anew what does not belong together"
            )


def _target_met(kind: str, *, met: bool) -> bool | None:
    """Gallery vectors lie where the index does, unlike what it will be asked: that they reach the target promises nothing."""
    return None if met and kind == GALLERY_VECTORS else met


def warn_of_queries(manifest: IndexManifest) -> None:
    """Tells that a recall was measured with nothing like what the index will be asked, where it was."""
    if manifest.target_met is None:
        _LOG.warning(
            "the recall was measured with %s: the embeddings have none of the queries that it will be asked, which may "
            "find much less; whether it reaches %g is not known",
            manifest.asked_with,
            manifest.target_recall,
        )
