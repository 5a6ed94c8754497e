"""The stages as the commands run them: alone, or one after the other in `clipmill run` and `clipmill demo`.

Each returns the manifest and whether it was there already. Heavy imports wait until a stage needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from jobs.command import progress
from pipeline.config import ClusterSettings, EmbedSettings, IndexSettings, SettingsModel
from pipeline.errors import OutputDiffers
from pipeline.schemas import EmbeddingsManifest, IndexManifest

if TYPE_CHECKING:
    from pipeline.flow.embed_plan import EmbedPlan

Result = TypeVar("Result")


def plan_embed(settings: EmbedSettings) -> EmbedPlan:
    """What embedding with these settings will do. Loads the model once, here, to know that it can be loaded."""
    from pipeline.clip.model import load_model
    from pipeline.flow.embed_plan import make_plan

    model = load_model(settings.model_settings, device="cpu")
    return make_plan(settings, model.identity, model.preprocessing)


def embed_stage(settings: EmbedSettings, cluster_settings: ClusterSettings) -> tuple[EmbeddingsManifest, bool]:
    """Source Parquet to embeddings."""
    from pipeline.flow.cluster import connect
    from pipeline.flow.embed import embed
    from pipeline.flow.embed_plan import finished

    plan = plan_embed(settings)
    manifest = finished(plan)
    if manifest is not None:
        return manifest, True
    with connect(cluster_settings) as cluster, progress(plan.rows, "rows", "embed") as on_progress:
        return embed(plan, cluster, cluster_settings, on_progress), False


def index_stage(settings: IndexSettings, cluster_settings: ClusterSettings) -> tuple[IndexManifest, bool]:
    """Embeddings to an index."""
    from pipeline.flow.cluster import connect
    from pipeline.flow.index import build_index
    from pipeline.index.build import finished, make_build

    work = make_build(settings)
    manifest = finished(work)
    if manifest is not None:
        return manifest, True
    with connect(cluster_settings) as cluster:
        return build_index(work, cluster, lambda message: click.echo(f"index: {message}", err=True)), False


def replacing(settings: SettingsModel, stage: Callable[[SettingsModel], tuple[Result, bool]]) -> tuple[Result, bool]:
    """A stage that replaces a finished output when its inputs or settings have changed."""
    try:
        return stage(settings)
    except OutputDiffers:
        return stage(settings.model_copy(update={"overwrite": True}))
