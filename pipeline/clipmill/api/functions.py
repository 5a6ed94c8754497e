"""The stages as functions, for notebooks and programs: the same settings as the commands' options, by the same names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from clipmill.core.manifests import DuplicatesManifest, EmbeddingsManifest, IndexManifest, SelectionManifest
from clipmill.core.reporter import Reporter, Silent
from clipmill.core.settings import (
    AskSettings,
    CaptionSettings,
    ClusterSettings,
    DedupSettings,
    EmbedSettings,
    EvaluateSettings,
    FilterSettings,
    IndexSettings,
    RecaptionSettings,
    RunSettings,
    Settings,
    TextEvaluationSettings,
    build,
)
from clipmill.core.startup import prepare_process
from clipmill.core.text_manifests import CaptionedManifest, TextsManifest

if TYPE_CHECKING:
    from clipmill.report.document import Report
    from clipmill.verification.findings import Findings
    from clipmill.versions.version import Version

Place = str | os.PathLike[str]
"""A local path or an ``s3://`` URI."""
AnySettings = TypeVar("AnySettings", bound=Settings)


def embed(input: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> EmbeddingsManifest:
    """Embeds the images and captions of ``input`` and publishes a dataset at ``output``; returns its manifest.

    ``settings`` are the options of ``clipmill embed`` by their names: ``model="ViT-B-32"``, ``thumbnails=96``,
    ``address="auto"``. What is there already is not made again, and a call that was interrupted is continued by the same
    call. Raises `clipmill.core.errors.UserError` for a mistake in the settings or the input, and
    `clipmill.core.errors.RunFailed` where the work could not be finished.
    """
    prepare_process()
    from clipmill.runs.stages import embed_stage

    made, cluster = _settings(EmbedSettings, {"input": input, "output": output, **settings})
    return embed_stage(made, cluster, reporter or Silent()).manifest


def build_index(
    embeddings: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any
) -> IndexManifest:
    """Builds an index over ``embeddings`` (a dataset, or what `run` publishes) at ``output``; returns its manifest.

    ``settings`` are the options of ``clipmill index``: ``memory="24GiB"``, ``target_recall=0.97``. Raises as `embed` does.
    """
    prepare_process()
    from clipmill.runs.stages import index_stage

    made, cluster = _settings(IndexSettings, _current({"embeddings": embeddings, "output": output, **settings}))
    return index_stage(made, cluster, reporter or Silent()).manifest


def dedup(embeddings: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> DuplicatesManifest:
    """Finds the near-duplicates in ``embeddings`` and writes pairs and groups to ``output``; returns their manifest.

    ``settings`` are the options of ``clipmill dedup``: ``threshold=0.96``, ``method="exact"``, ``linkage="complete"``. The
    manifest's ``method`` and ``recall`` say how pairs were found and what share of them. Raises as `embed` does.
    """
    prepare_process()
    from clipmill.runs.stages import dedup_stage

    made, cluster = _settings(DedupSettings, _current({"embeddings": embeddings, "output": output, **settings}))
    return dedup_stage(made, cluster, reporter or Silent()).manifest


def filter(embeddings: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> SelectionManifest:
    """Keeps the rows of ``embeddings`` that meet every condition, at ``output``; returns the manifest of the selection.

    ``settings`` are the options of ``clipmill filter``: ``min_clip_score=0.2``, ``prompt=["a photo >= 0.2"]``. Raises as
    `embed` does.
    """
    prepare_process()
    from clipmill.runs.stages import filter_stage

    made, cluster = _settings(FilterSettings, _current({"embeddings": embeddings, "output": output, **settings}))
    return filter_stage(made, reporter or Silent(), cluster).manifest


def caption(input: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> TextsManifest:
    """Writes captions of the pictures of ``input`` and publishes them at ``output``; returns their manifest.

    ``settings`` are the options of ``clipmill caption``: ``model="models/llava"``, ``style="alt"``. Raises as `embed` does.
    """
    return _words(CaptionSettings, {"input": input, "output": output, **settings}, reporter)


def ask(input: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> TextsManifest:
    """Asks a question about every picture of ``input`` and publishes the answers at ``output``; returns their manifest.

    ``settings`` are the options of ``clipmill ask``: ``question="Is a person visible?"``, ``choices="yes,no"``. Raises as
    `embed` does.
    """
    return _words(AskSettings, {"input": input, "output": output, **settings}, reporter)


def recaption(
    input: Place, texts: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any
) -> CaptionedManifest:
    """Keeps of the captions of ``input``, and of ``texts`` about the same pictures, those that are true, and publishes the
    rows with them at ``output``; returns the manifest.

    ``settings`` are the options of ``clipmill recaption``: ``filter="clip"``, ``threshold=0.25``. Raises as `embed` does.
    """
    prepare_process()
    from clipmill.runs.text_stages import recaption_stage

    made, cluster = _settings(RecaptionSettings, {"input": input, "texts": texts, "output": output, **settings})
    return recaption_stage(made, cluster, reporter or Silent()).manifest


def _words(
    model: type[CaptionSettings] | type[AskSettings], values: dict[str, Any], reporter: Reporter | None
) -> TextsManifest:
    prepare_process()
    from clipmill.runs.text_stages import words_stage

    made, cluster = _settings(model, values)
    return words_stage(made, cluster, reporter or Silent()).manifest


def evaluate(embeddings: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> Report:
    """Measures ``embeddings`` and writes a report to ``output``; returns it.

    ``settings`` are the options of ``clipmill evaluate``: ``index="index/"``, ``label_column="category"``. Raises as
    `embed` does.
    """
    prepare_process()
    from clipmill.runs.stages import evaluate_stage

    made, cluster = _settings(EvaluateSettings, _current({"embeddings": embeddings, "output": output, **settings}))
    return evaluate_stage(made, reporter or Silent(), cluster=cluster).manifest


def evaluate_texts(texts: Place, output: Place, *, reporter: Reporter | None = None, **settings: Any) -> Report:
    """Measures ``texts`` that were written about pictures, and writes a report to ``output``; returns it.

    ``settings`` are the options of ``clipmill evaluate --texts``: ``answer_column="answers"``. Raises as `embed` does.
    """
    prepare_process()
    from clipmill.runs.text_stages import evaluate_texts_stage

    made, _ = _settings(TextEvaluationSettings, {"texts": texts, "output": output, **settings})
    return evaluate_texts_stage(made, reporter or Silent()).manifest


def run(source: Place, *, wait: float = 0.0, reporter: Reporter | None = None, **settings: Any) -> Version | None:
    """Every stage over an input, or of a run file, published as a new version, which is returned; None where nothing changed.

    ``settings`` are the options of ``clipmill run`` by their names: ``output="found"``, ``model="ViT-B-32"``; what is made of
    ``photos`` lies in ``photos.clipmill`` unless ``output`` says otherwise. A run file says everything itself. Waits up to
    ``wait`` seconds for another run towards the same output to end. Raises `clipmill.core.errors.BarMissed` where a gate was
    missed, and else as `embed` does.
    """
    prepare_process()
    from clipmill.runs.from_input import read_asked
    from clipmill.runs.version_run import run_version

    told = reporter or Silent()
    asked = read_asked(*_settings(RunSettings, {"source": source, **settings}))
    return run_version(asked.run, asked.called, wait, told, told.message)


def verify(uri: Place, *, quick: bool = False, reporter: Reporter | None = None, **settings: Any) -> list[Findings]:
    """Proves from the files that the dataset at ``uri`` is whole, or each of those that a published version holds.

    ``quick`` compares sizes, footers and stored checksums only. ``settings`` are the options of a cluster whose tasks read:
    ``address="auto"``. Faults are in the findings; raises UserError where there is no dataset.
    """
    prepare_process()
    from clipmill.engine.choose import looking_where_named
    from clipmill.verification.dataset import verify as verify_dataset
    from clipmill.versions.pointer import datasets_at

    told, cluster, places = reporter or Silent(), build(ClusterSettings, settings), datasets_at(str(uri))
    with looking_where_named(cluster, "verify", told, quick=quick) as looking:
        return [verify_dataset(place, quick=quick, reporter=told, looking=looking) for place in places]


def _settings(model: type[AnySettings], values: dict[str, Any]) -> tuple[AnySettings, ClusterSettings]:
    """Settings of a stage and of the cluster from one dictionary. Raises UserError, naming each that is at fault."""
    plain = {key: str(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
    of_cluster = {key: value for key, value in plain.items() if key in ClusterSettings.model_fields}
    others = {key: value for key, value in plain.items() if key not in of_cluster}
    return build(model, others), build(ClusterSettings, of_cluster)


def _current(values: dict[str, Any]) -> dict[str, Any]:
    """What `run` publishes may be named in place of a dataset."""
    from clipmill.versions.pointer import with_current

    return with_current({key: str(value) if isinstance(value, os.PathLike) else value for key, value in values.items()})
