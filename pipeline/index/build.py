"""Building an index, before and after the work: what is to be made, whether it is there already, and its manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from pipeline import environment, storage
from pipeline.config import IndexSettings
from pipeline.datasets import has_manifest, read_manifest, read_shards, refuse_differences, write_manifest, write_shards
from pipeline.index.fill import Filled
from pipeline.index.footprint import Footprint, add_shard
from pipeline.index.gallery import Gallery
from pipeline.index.layout import ShardPlace, places
from pipeline.index.operate import Operation
from pipeline.index.plan import Plan, plan_index
from pipeline.schemas import IndexManifest, Run
from pipeline.storage import Location

_CONTENT_SETTINGS = ("gallery", "factory", "shards", "memory", "target_recall", "tuning_queries", "k", "seed")
"""Settings that decide what is in the index; the others only decide where it is."""


@dataclass(frozen=True)
class Build:
    """Everything that building an index does, fixed before it starts."""

    settings: IndexSettings
    gallery: Gallery
    plan: Plan

    @cached_property
    def output(self) -> Location:
        return storage.resolve_output(self.settings.output)

    @cached_property
    def staging(self) -> Location:
        return storage.staging_of(self.output)

    @property
    def configuration(self) -> dict[str, Any]:
        """The settings that decide the content, as they are written to the manifest."""
        settings = self.settings.model_dump(mode="json")
        return {key: settings[key] for key in _CONTENT_SETTINGS}

    @cached_property
    def places(self) -> list[ShardPlace]:
        return places(self.gallery.n, self.plan.shards)


def make_build(settings: IndexSettings) -> Build:
    """Opens the embeddings and plans their index. Raises UserError for what cannot be indexed as it is asked."""
    gallery = Gallery.open(settings.embeddings, settings.gallery)
    plan = plan_index(
        gallery.n,
        gallery.dimension,
        settings.memory,
        settings.target_recall,
        factory=settings.factory,
        shards=settings.shards,
    )
    return Build(settings, gallery, plan)


def finished(build: Build) -> IndexManifest | None:
    """The manifest of the index at the output, if it is already what this build makes; None where there is none.

    Raises OutputDiffers, saying what differs, when another index is there and ``overwrite`` is not set, and
    RunFailed when its list of files is missing or altered.
    """
    if not has_manifest(build.output, IndexManifest) or build.settings.overwrite:
        return None
    manifest = read_manifest(build.output, IndexManifest)
    differences = [
        f"{key}: was {manifest.configuration.get(key)}, now {value}"
        for key, value in build.configuration.items()
        if manifest.configuration.get(key) != value
    ]
    if manifest.embeddings_manifest_sha256 != build.gallery.dataset.manifest_sha256:
        differences.insert(0, f"the embeddings are not those of {manifest.embeddings}, or were made anew")
    refuse_differences(build.output, differences)
    read_shards(build.output, manifest.shards_sha256)
    return manifest


@dataclass(frozen=True)
class Built:
    """What the work gave. Seconds by stage are sums over all workers."""

    started: datetime
    trained_sha256: str
    shards: Sequence[Filled]
    query_kind: str
    operation: Operation
    stage_seconds: dict[str, float]


def publish_index(build: Build, built: Built, hardware: dict[str, Any]) -> IndexManifest:
    """Writes the list of files and the manifest, and puts the finished index in its place."""
    footprint: Footprint | None = None
    for shard in built.shards:
        footprint = add_shard(footprint, shard.footprint)
    assert footprint is not None
    dataset = build.gallery.dataset
    files = [file for shard in built.shards for file in shard.files]
    manifest = IndexManifest(
        model=dataset.manifest.model,
        dimension=build.gallery.dimension,
        n=build.gallery.n,
        gallery=build.gallery.part,
        shards=len(build.places),
        factory=build.plan.factory,
        why=build.plan.why,
        exact=build.plan.exact,
        k=build.settings.k,
        target_recall=build.settings.target_recall,
        target_met=built.operation.met,
        operating_point=built.operation.point,
        front=built.operation.front,
        query_kind=built.query_kind,
        memory=footprint.as_dict(),
        configuration=build.configuration,
        kept_columns=build.gallery.kept_columns,
        embeddings=dataset.location.uri,
        embeddings_manifest_sha256=dataset.manifest_sha256,
        trained_sha256=built.trained_sha256,
        shards_sha256=write_shards(build.staging, files),
        runs=[
            Run(
                started=built.started,
                finished=datetime.now(timezone.utc),
                rows_encoded=build.gallery.n,
                rows_reused=0,
                limited_by=max(built.stage_seconds, key=lambda stage: built.stage_seconds[stage]),
            )
        ],
        stage_seconds={stage: round(seconds, 3) for stage, seconds in built.stage_seconds.items()},
        software=environment.software(),
        hardware={**environment.hardware(), **hardware},
    )
    write_manifest(build.staging, manifest)
    storage.publish(build.staging, build.output)
    return manifest
