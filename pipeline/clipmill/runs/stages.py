"""From settings to a finished dataset: one function a stage, for commands, for a run of several stages, for the Python API.

What a stage needs is imported where it is used, so that a mistake in the settings or the input is told before torch, FAISS
or Ray are imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clipmill.core.errors import OutputDiffers
from clipmill.core.manifests import (
    DuplicatesManifest,
    EmbeddingsManifest,
    Forecast,
    IndexManifest,
    ModelIdentity,
    SelectionManifest,
)
from clipmill.core.reporter import Reporter
from clipmill.core.settings import (
    ClusterSettings,
    DedupSettings,
    EmbedSettings,
    EvaluateSettings,
    FilterSettings,
    IndexSettings,
    OutputSettings,
)
from clipmill.stage.stage import Made

if TYPE_CHECKING:
    from clipmill.embedding.plan import EmbedPlan, EmbedSource
    from clipmill.encoders.model import ClipModel
    from clipmill.index.build.build import Build
    from clipmill.report.document import Report

AnySettings = TypeVar("AnySettings", bound=OutputSettings)
Result = TypeVar("Result")


def replacing(settings: AnySettings, stage: Callable[[AnySettings], Result]) -> Result:
    """A stage that replaces a finished output when its inputs or settings have changed."""
    try:
        return stage(settings)
    except OutputDiffers:
        return stage(settings.model_copy(update={"overwrite": True}))


def plan_embed(settings: EmbedSettings, source: EmbedSource | None = None) -> tuple[EmbedPlan, ClipModel]:
    """What embedding with these settings will do, and the model, which is loaded here and nowhere else."""
    from clipmill.embedding.plan import find_source, make_plan

    source = source or find_source(settings)  # first: what is wrong with the input is told before torch is imported
    from clipmill.encoders.model import load_model

    model = load_model(settings.model_settings, device="cpu")
    return make_plan(settings, source, model.identity, model.preprocessing), model


def embed_stage(settings: EmbedSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[EmbeddingsManifest]:
    """Embeds the images and captions of source Parquet."""
    from clipmill.embedding.plan import find_source

    reporter.message("embed", f"reading what is in {settings.input}")
    source = find_source(settings)
    reporter.message("embed", "loading the model")
    return embed_planned(*plan_embed(settings, source), cluster, reporter)


def embed_planned(
    plan: EmbedPlan, model: ClipModel, cluster: ClusterSettings, reporter: Reporter
) -> Made[EmbeddingsManifest]:
    """Embeds what a plan says."""
    from clipmill.engine.embed import embed

    return embed(plan, model, cluster, reporter)


def index_stage(settings: IndexSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[IndexManifest]:
    """Builds an index over embeddings."""
    from clipmill.index.build.build import make_build

    return build_stage(make_build(settings), cluster, reporter)


def build_stage(build: Build, cluster: ClusterSettings, reporter: Reporter) -> Made[IndexManifest]:
    """Builds the index that was planned."""
    from clipmill.engine.choose import pieces_for
    from clipmill.index.build.graph import make_index

    def work(work: Any) -> IndexManifest:
        with pieces_for(cluster, build.gallery.n, build.name, reporter) as (pieces, told):
            return make_index(build, work, pieces, told)

    return build.run(work)


def dedup_stage(settings: DedupSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[DuplicatesManifest]:
    """Finds the near-duplicates among embeddings."""
    from clipmill.curate.dedup import make_dedup
    from clipmill.curate.graph import find_duplicates
    from clipmill.engine.choose import pieces_for

    dedup = make_dedup(settings)

    def work(work: Any) -> DuplicatesManifest:
        with pieces_for(cluster, dedup.gallery.n, dedup.name, reporter) as (pieces, told):
            return find_duplicates(dedup, work, pieces, told)

    return dedup.run(work)


def filter_stage(settings: FilterSettings, reporter: Reporter) -> Made[SelectionManifest]:
    """Keeps the rows of embeddings that meet every condition."""
    from clipmill.curate.filter import make_filter, run_filter

    selection = make_filter(settings)

    def encode(texts: list[str]) -> Any:
        identity = selection.gallery.dataset.manifest.model
        assert identity is not None  # make_filter has refused prompts without it
        return _text_encoder(identity, settings.pretrained)(texts)

    return selection.run(lambda work: run_filter(selection, work, encode, reporter))


def evaluate_stage(
    settings: EvaluateSettings, reporter: Reporter, cache: Path | None = None, plan: Forecast | None = None
) -> Made[Report]:
    """Measures embeddings, and the index over them, and writes a report. ``plan`` is told in it as it is."""
    from clipmill.core.environment import DEFAULT_CACHE
    from clipmill.report.evaluation import evaluate, make_evaluation

    reporter.message("evaluate", f"opening {settings.embeddings}")
    return evaluate(
        make_evaluation(settings),
        lambda identity: _text_encoder(identity, settings.pretrained),
        cache or DEFAULT_CACHE,
        reporter,
        plan,
    )


def _text_encoder(identity: ModelIdentity, pretrained: str | None) -> Callable[[list[str]], Any]:
    """The text tower that made embeddings. Raises UserError when only another model is to be had."""
    from clipmill.encoders.model import load_model_of  # imports torch

    return load_model_of(identity, None, pretrained, "the embeddings").encode_texts
