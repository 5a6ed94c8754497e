"""From settings to a finished dataset: one function a stage, for commands, for a run of several stages, for the Python API.

What a stage needs is imported where it is used, so that a mistake in the settings or the input is told before torch, FAISS
or Ray are imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clipmill import storage
from clipmill.core.errors import OutputDiffers, RunFailed
from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    DuplicatesManifest,
    EmbeddingsManifest,
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
    ModelSettings,
    OutputSettings,
    TrainSettings,
)
from clipmill.runs.begun import with_builtin_of
from clipmill.stage.stage import Made, Work
from clipmill.storage import Location

if TYPE_CHECKING:
    from clipmill.embedding.plan import EmbedPlan, EmbedSource
    from clipmill.encoders.model import ClipModel
    from clipmill.evaluation.classification.learned_prompts import PromptTower
    from clipmill.index.build.build import Build
    from clipmill.report.document import Report
    from clipmill.train.checkpoint import ModelRecord

_LOG = logging.getLogger(__name__)
AnySettings = TypeVar("AnySettings", bound=OutputSettings)
Result = TypeVar("Result")


def replacing(settings: AnySettings, stage: Callable[[AnySettings], Result]) -> Result:
    """A stage that replaces a finished output when its inputs or settings have changed."""
    try:
        return stage(settings)
    except OutputDiffers:
        return stage(settings.model_copy(update={"overwrite": True}))


Loader = Callable[[], "ClipModel"]
"""Gives the model of a plan; it is loaded for the first call."""


def plan_embed(
    settings: EmbedSettings, source: EmbedSource | None, reporter: Reporter, begun: Sequence[Location] = ()
) -> tuple[EmbedPlan, Loader]:
    """What embedding with these settings will do, and its model, which is loaded here only where it is not known yet.
    ``begun`` are the embeddings that it goes on from or grows from, the nearest first; its own output where none are said."""
    from clipmill.embedding.plan import find_source, make_plan
    from clipmill.encoders.adapters.loading import clips_of, preparation_of
    from clipmill.encoders.known import known_identity
    from clipmill.encoders.protocol import Clips, WithoutPictures

    settings = with_builtin_of(settings, begun or (storage.resolve(settings.output),), reporter)
    source = source or find_source(settings)  # first: what is wrong with the input is told before torch is imported
    load = lru_cache(maxsize=1)(partial(load_here, settings.model_settings, reporter))
    identity = known_identity(settings.model_settings) or load().identity
    preparation = preparation_of(identity)
    if preparation is None:
        preparation = load().encoder.images or WithoutPictures()
    clips = clips_of(identity) or Clips.of(load().encoder)
    plan = make_plan(settings, source, identity, preparation, clips)
    return plan, partial(_loaded_as_planned, load, identity)


def load_here(settings: ModelSettings, reporter: Reporter) -> ClipModel:
    """The model of these settings on the CPU; its identity is kept."""
    from clipmill.encoders.known import keep_identity
    from clipmill.encoders.model import load_model

    reporter.message("embed", "loading the model")
    model = load_model(settings, device="cpu")
    keep_identity(settings, model.identity)
    return model


def load_identity(settings: ModelSettings, reporter: Reporter) -> ModelIdentity:
    """The identity of a model, which is loaded where it is not known yet."""
    from clipmill.encoders.known import known_identity
    from clipmill.encoders.library import refuse_unusable_model

    refuse_unusable_model(settings)
    return known_identity(settings) or load_here(settings, reporter).identity


def _loaded_as_planned(load: Loader, planned: ModelIdentity) -> ClipModel:
    """Raises RunFailed where the model is not the one that the plan was made for."""
    model = load()
    if differences := planned.differences(model.identity):
        raise RunFailed(
            f"the model's files were replaced by others of the same size and date ({'; '.join(differences)}); run the same "
            "command again"
        )
    return model


def embed_stage(settings: EmbedSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[EmbeddingsManifest]:
    """Embeds the images and captions of source Parquet."""
    from clipmill.embedding.plan import find_source
    from clipmill.engine.device import check_decoding, check_device, declared

    check_device(cluster)
    check_decoding(settings.decode, declared(cluster))
    reporter.message("embed", f"reading what is in {settings.input}")
    source = find_source(settings)
    return embed_planned(*plan_embed(settings, source, reporter), cluster, reporter)


def embed_planned(
    plan: EmbedPlan, load: Loader, cluster: ClusterSettings, reporter: Reporter, published_place: str | None = None
) -> Made[EmbeddingsManifest]:
    """Embeds what a plan says, unless that is done; ``published_place`` is where `clipmill run` publishes it, if it does."""

    def work(work: Work) -> EmbeddingsManifest:
        from clipmill.encoders.caution import caution
        from clipmill.engine.embed import embed

        kept = [field.name for _, field in plan.columns.kept]
        if told := caution(plan.identity, kept, plan.settings.input, published_place):
            _LOG.warning(told)
        return embed(plan, load(), cluster, reporter, work)

    return plan.run(work)


def train_stage(settings: TrainSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[ModelRecord]:
    """Trains a model: in this process, or on several workers where they or a cluster are asked for."""
    from clipmill.encoders.names import refuse_unknown_model

    if settings.loss not in ("lm", "itm"):
        refuse_unknown_model(settings.model, settings.pretrained)
    reporter.message("train", "loading torch")
    from clipmill.engine.choose import runs_here
    from clipmill.engine.device import check_device, device_here
    from clipmill.runs.training import told_to
    from clipmill.train.inputs import check
    from clipmill.train.run import train, train_here

    check_device(cluster)
    told = told_to(reporter)

    def drive(work: Work) -> ModelRecord:
        check(settings)
        if runs_here(cluster, small=settings.workers in (None, (1, 1))):
            return train_here(settings, work, told, device_here(cluster)[0])
        from clipmill.engine.train_on_ray import train_on_ray

        return train_on_ray(settings, cluster, work, told, reporter)

    return train(settings, drive)


def index_stage(settings: IndexSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[IndexManifest]:
    """Builds an index over embeddings."""
    from clipmill.engine.device import check_products

    check_products(settings.products, cluster)
    from clipmill.index.build.build import make_build

    return build_stage(make_build(settings), cluster, reporter)


def build_stage(build: Build, cluster: ClusterSettings, reporter: Reporter) -> Made[IndexManifest]:
    """Builds the index that was planned."""
    from clipmill.engine.choose import pieces_for
    from clipmill.index.build.graph import make_index

    def work(work: Any) -> IndexManifest:
        with pieces_for(cluster, build.gallery.n, build.name, reporter, build.settings.products) as (pieces, told):
            return make_index(build, work, pieces, told)

    return build.run(work)


def dedup_stage(settings: DedupSettings, cluster: ClusterSettings, reporter: Reporter) -> Made[DuplicatesManifest]:
    """Finds the near-duplicates among embeddings."""
    from clipmill.engine.device import check_products

    check_products(settings.products, cluster)
    from clipmill.curate.dedup import make_dedup
    from clipmill.curate.graph import find_duplicates
    from clipmill.engine.choose import pieces_for

    dedup = make_dedup(settings)

    def work(work: Any) -> DuplicatesManifest:
        with pieces_for(cluster, dedup.gallery.n, dedup.name, reporter, settings.products) as (pieces, told):
            return find_duplicates(dedup, work, pieces, told)

    return dedup.run(work)


def filter_stage(
    settings: FilterSettings, reporter: Reporter, cluster: ClusterSettings | None = None
) -> Made[SelectionManifest]:
    """Keeps the rows of embeddings that meet every condition: by tasks where a ``cluster`` is named, else in this process."""
    from clipmill.curate.filter import make_filter
    from clipmill.curate.filtering import keep_rows
    from clipmill.engine.choose import pieces_where_named

    selection = make_filter(settings)

    def encode(texts: list[str]) -> Any:
        identity = selection.gallery.dataset.manifest.model
        assert identity is not None  # make_filter has refused prompts without it
        return _text_encoder(identity, settings)(texts)

    def work(work: Any) -> SelectionManifest:
        with pieces_where_named(cluster or ClusterSettings(), selection.name, reporter) as pieces:
            return keep_rows(selection, work, encode, pieces, reporter)

    return selection.run(work)


def evaluate_stage(
    settings: EvaluateSettings,
    reporter: Reporter,
    cache: Path | None = None,
    plan: Forecast | None = None,
    cluster: ClusterSettings | None = None,
) -> Made[Report]:
    """Measures embeddings, and the index over them, and writes a report. ``plan`` is told in it as it is. Queries are ranked
    by tasks where a ``cluster`` is named, else in this process."""
    from clipmill.core.environment import DEFAULT_CACHE
    from clipmill.engine.choose import pieces_where_named
    from clipmill.engine.device import ON_GPU, check_products
    from clipmill.report.evaluation import evaluate, make_evaluation

    if check_products(settings.products):
        reporter.message("evaluate", ON_GPU)

    reporter.message("evaluate", f"opening {settings.embeddings}")
    return evaluate(
        make_evaluation(settings),
        lambda identity: _text_encoder(identity, settings),
        cache or DEFAULT_CACHE,
        reporter,
        plan,
        lambda identity: _prompt_tower(identity, settings),
        lambda: pieces_where_named(cluster or ClusterSettings(), "evaluate", reporter, settings.products),
    )


def _text_encoder(identity: ModelIdentity, settings: FilterSettings | EvaluateSettings) -> Callable[[list[str]], Any]:
    """The text tower that made embeddings. Raises UserError when only another model is to be had."""
    return _model_of(identity, settings).encode_texts


def _prompt_tower(identity: ModelIdentity, settings: EvaluateSettings) -> PromptTower | None:
    """The same, for its prompts to be learned; None where they cannot be."""
    from clipmill.evaluation.classification.learned_prompts import PromptTower

    model = _model_of(identity, settings)
    return PromptTower.of(model.network, model.tokenizer, model.device, identity.logit_scale, identity.dimension)


def _model_of(identity: ModelIdentity, settings: FilterSettings | EvaluateSettings) -> ClipModel:
    from clipmill.encoders.model import load_model_of  # imports torch

    trusted = bool(settings.trust_remote_code)
    return load_model_of(identity, None, settings.pretrained, "the embeddings", trust_remote_code=trusted)
