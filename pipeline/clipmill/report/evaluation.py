"""One evaluation from its settings to its report: what is already there, what to measure, what to publish."""

import shlex
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import Foresight, IndexManifest, ModelIdentity
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import MANIFEST, Embeddings, refuse_differences
from clipmill.evaluate.classification.class_names import IMAGENET
from clipmill.evaluate.classification.prompt_cache import PromptCache
from clipmill.evaluate.classification.templates import NAMED
from clipmill.evaluate.classification.zero_shot import Encode
from clipmill.evaluate.index_quality import manifest_of_index, measure_index
from clipmill.evaluate.outcomes import Outcomes
from clipmill.evaluate.quality import Absence, Progress, check_settings, measure_quality, silent
from clipmill.evaluate.studies.corrupted import open_corrupted
from clipmill.evaluate.studies.studies import not_asked_for
from clipmill.report.assemble import Making, MeasuredIndex, assemble
from clipmill.report.document import Report
from clipmill.report.queries import QUERIES_FILE, write_queries
from clipmill.report.write import has_report, publish_report, read_report
from clipmill.stage.checkpoints import KeptIn
from clipmill.stage.staging import Staging
from clipmill.storage.lease import owned

_CONTENT_SETTINGS = (
    "label_column",
    "class_names",
    "templates",
    "probe",
    "slice_by",
    "perturb_text",
    "bootstrap_samples",
    "fidelity_queries",
    "seed",
)
LoadEncoder = Callable[[ModelIdentity], Encode]
"""Given the identity of the embeddings' model: loads it, checks that it is the same, and returns its text encoder."""


def evaluate(
    settings: EvaluateSettings,
    load_encoder: LoadEncoder,
    cache: Path,
    progress: Progress = silent,
    plan: Foresight | None = None,
) -> tuple[Report, bool]:
    """The report, and whether it was there already: with ``overwrite`` only where a run of the same was killed after it
    had published. What an earlier start measured is not measured again. ``plan`` is told in it as it is.

    Raises UserError for a mistake in the settings, and OutputDiffers when another report is at the output, or
    unfinished work towards another.
    """
    embeddings = Embeddings.open(settings.embeddings)
    output = storage.resolve_output(settings.output)
    inputs = _inputs(embeddings, settings)
    staging = Staging(output, {"settings": _content(settings), **inputs})
    if has_report(output) and (not settings.overwrite or staging.is_published()):
        present = read_report(output)
        refuse_differences(output, _differences(present, settings, inputs))
        staging.drop_leftovers()
        return present, True
    check_settings(embeddings, settings)
    index = manifest_of_index(embeddings, settings.index) if settings.index else None
    with owned(storage.staging_of(output)) as ownership:
        staging.open(overwrite=settings.overwrite)
        keep = KeptIn(staging.folder / "parts")
        try:
            report, outcomes = _measured(embeddings, settings, index, load_encoder, cache, progress, inputs, keep)
        except UserError:
            if not storage.list_files(keep.folder):
                staging.drop()
            raise
        queries = write_queries(staging.dataset / QUERIES_FILE, embeddings, outcomes)
        report = report.model_copy(update={"queries": queries, "plan": plan})
        ownership.check()
        publish_report(report, staging)
    return report, False


def _measured(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    index: IndexManifest | None,
    load_encoder: LoadEncoder,
    cache: Path,
    progress: Progress,
    inputs: dict[str, str | None],
    keep: KeptIn,
) -> tuple[Report, list[Outcomes]]:
    started = datetime.now(timezone.utc)
    identity = embeddings.manifest.model

    def encoder() -> Encode:
        assert identity is not None  # zero-shot is not tried without a model
        return load_encoder(identity)

    with tempfile.TemporaryDirectory(prefix="clipmill-evaluate-") as scratch:
        prompts = PromptCache(cache.expanduser() / "prompts")
        quality = measure_quality(embeddings, settings, encoder, Path(scratch), progress, keep, prompts)
    measured, absences = None, not_asked_for(settings)
    if index is None:
        absences.append(Absence("Index fidelity", "no --index was given"))
    if index and settings.index:
        fidelity, through = measure_index(settings.index, embeddings, settings, cache, quality.asked, progress, keep)
        measured = MeasuredIndex(storage.resolve(settings.index).uri, index, fidelity, through)
    began = started - timedelta(seconds=keep.seconds_saved)  # as if it had been done at one go
    making = Making(_command(settings), _content(settings), inputs, began, settings.probe_train)
    return assemble(embeddings, quality, measured, making, absences), quality.outcomes


def _content(settings: EvaluateSettings) -> dict[str, Any]:
    """The settings that decide what is measured."""
    values = settings.model_dump(mode="json")
    return {key: values[key] for key in _CONTENT_SETTINGS}


def _inputs(embeddings: Embeddings, settings: EvaluateSettings) -> dict[str, str | None]:
    """sha256 of what is read; the index and the template file only where there are such."""
    inputs: dict[str, str | None] = {"embeddings manifest": embeddings.manifest_sha256}
    for name, location in (
        ("index manifest", storage.resolve(settings.index) / MANIFEST if settings.index else None),
        ("template file", storage.resolve(settings.templates) if settings.templates not in NAMED else None),
    ):
        inputs[name] = storage.sha256(location) if location and storage.exists(location) else None
    if settings.class_names and settings.class_names != IMAGENET:
        names = storage.resolve(settings.class_names)
        inputs["class name file"] = storage.sha256(names) if storage.exists(names) else None
    if settings.probe_train:
        inputs["probe training manifest"] = Embeddings.open(settings.probe_train).manifest_sha256
    for corrupted in open_corrupted(embeddings, settings.robustness):
        inputs[f"embeddings manifest of {corrupted.corruption}"] = corrupted.embeddings.manifest_sha256
    return inputs


def _differences(present: Report, settings: EvaluateSettings, inputs: dict[str, str | None]) -> list[str]:
    names = dict.fromkeys([*inputs, *present.inputs])
    differences = [f"the {name} is another" for name in names if present.inputs.get(name) != inputs.get(name)]
    before = {**_content(EvaluateSettings(embeddings="", output="")), **present.settings}  # of an older report too
    differences += [
        f"{key} was {before[key]} and is now {value}"
        for key, value in _content(settings).items()
        if before[key] != value
    ]
    return differences


def _command(settings: EvaluateSettings) -> str:
    """The command line that makes this report; options at their defaults are left out."""
    words = ["clipmill", "evaluate"]
    for name, value in settings.model_dump(mode="json").items():
        if name != "overwrite" and value not in (EvaluateSettings.model_fields[name].default, []):
            option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            one = [] if isinstance(value, bool) else [str(value)]
            values = [[str(part)] for part in value] if isinstance(value, list) else [one]
            words += [word for given in values for word in (option, *given)]
    return shlex.join(words)
