"""One evaluation from its settings to its report: what is already there, what to measure, what to publish."""

import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache as kept
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    IndexManifest,
    ModelIdentity,
)
from clipmill.core.reporter import Reporter
from clipmill.core.settings import EvaluateSettings
from clipmill.core.settings.base import option_of
from clipmill.datasets.manifests import MANIFEST, Embeddings
from clipmill.evaluation.classification.class_names import IMAGENET
from clipmill.evaluation.classification.learned_prompts import PromptTower
from clipmill.evaluation.classification.prompt_cache import PromptCache
from clipmill.evaluation.classification.templates import NAMED
from clipmill.evaluation.classification.zero_shot import Encode, ZeroShot
from clipmill.evaluation.index_quality import manifest_of_index, measure_index
from clipmill.evaluation.progress import Absence, Progress
from clipmill.evaluation.quality import Quality, Ranking, check_settings, measure_quality, ranking_here
from clipmill.evaluation.retrieval.parts import InParts
from clipmill.evaluation.retrieval.retrieval import Rank
from clipmill.evaluation.studies.corrupted import open_corrupted
from clipmill.evaluation.studies.studies import not_asked_for
from clipmill.index.build.searches import Searches
from clipmill.report.assemble import Making, MeasuredIndex, assemble
from clipmill.report.document import MtebPart, Report, TrecPart
from clipmill.report.mteb_results import write_mteb
from clipmill.report.queries import QUERIES_FILE, write_queries
from clipmill.report.trec import write_trec
from clipmill.report.write import REPORT, write_pages
from clipmill.stage.checkpoints import CheckpointFolder
from clipmill.stage.outline import Outline, Step
from clipmill.stage.pieces import Pieces
from clipmill.stage.stage import Made, Stage, Work, configuration_differences
from clipmill.storage import Location

LoadEncoder = Callable[[ModelIdentity], Encode]
"""Given the identity of the embeddings' model: loads it, checks that it is the same, and returns its text encoder."""
LoadPromptTower = Callable[[ModelIdentity], PromptTower | None]
"""The same for the text tower that learns prompts; None where it cannot."""
Drive = Callable[[], AbstractContextManager[Pieces]]
"""Gives the engine that does pieces of work, for as long as there are some."""


@dataclass(frozen=True)
class Evaluation(Stage[Report]):
    """A report to be made, fixed before anything is measured. ``inputs`` are the sha256 of what is read, by name."""

    name = "evaluate"
    kind = REPORT
    settings: EvaluateSettings
    embeddings: Embeddings
    inputs: dict[str, str | None]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for measurements of one start to be of use to another."""
        return {"settings": self.settings.content(), **self.inputs}

    def differences(self, found: Report) -> list[str]:
        """How a report at the output differs from what this measures, in words."""
        names = dict.fromkeys([*self.inputs, *found.inputs])
        told = [f"the {name} is another" for name in names if found.inputs.get(name) != self.inputs.get(name)]
        defaults = EvaluateSettings(embeddings="", output="").content()  # an older report lacks newer settings
        now = {**dict.fromkeys(self.settings.LATER), **self.settings.content()}
        before = {**defaults, **found.settings}
        if self._ranks_all_of(found):
            before["query_sample"] = now["query_sample"]
        return told + configuration_differences(before, now)

    def _ranks_all_of(self, found: Report) -> bool:
        """Whether a report ranked every query, and this would too: then how many it may draw makes no difference."""
        most = self.settings.ranked_at_most
        return all(part.sampled is None and (most is None or part.queries <= most) for part in found.retrieval)

    @property
    def outline(self) -> Outline:
        """Measurements, which come in as many parts as the data allow."""
        step = Step(doing="measuring", total=None, files={"parts/*.npz": 1})
        return Outline(stage=self.name, unit="parts", steps=(step,))


def make_evaluation(settings: EvaluateSettings) -> Evaluation:
    """Opens what is to be evaluated. Raises UserError for what is no embeddings dataset."""
    embeddings = Embeddings.open(settings.embeddings)
    return Evaluation(settings, embeddings, _inputs(embeddings, settings))


def evaluate(
    evaluation: Evaluation,
    load_encoder: LoadEncoder,
    cache: Path,
    reporter: Reporter,
    plan: Forecast | None = None,
    load_prompt_tower: LoadPromptTower | None = None,
    drive: Drive | None = None,
) -> Made[Report]:
    """Measures, and publishes the report. What an earlier start measured is not measured again. ``plan`` is told in the
    report as it is. ``load_prompt_tower`` is needed where prompts are to be learned. With ``drive``, queries are ranked in
    pieces of work, each of which is kept; without it, in this process at one go.

    Raises UserError for a mistake in the settings, and OutputDiffers when another report is at the output, or unfinished
    work towards another.
    """
    settings, embeddings = evaluation.settings, evaluation.embeddings

    def work(work: Work) -> Report:
        check_settings(embeddings, settings)
        index = manifest_of_index(embeddings, settings.index) if settings.index else None
        checkpoint = CheckpointFolder(work.folder / "parts")
        progress = told_to(reporter)
        loaders = (load_encoder, load_prompt_tower)
        ranking = _in_pieces(evaluation, checkpoint.folder, drive) if drive else ranking_here
        report, quality = _measured(evaluation, index, loaders, cache, progress, checkpoint, ranking)
        outcomes = quality.outcomes
        queries = write_queries(work.dataset / QUERIES_FILE, embeddings, outcomes, settings.seed)
        trec = _trec(work.dataset, evaluation, {outcome.task: outcome.positions for outcome in outcomes})
        mteb = _mteb(work.dataset, evaluation, report, quality.zero_shot)
        report = report.model_copy(update={"queries": queries, "plan": plan, "trec": trec, "mteb": mteb})
        write_pages(report, work.dataset)
        return report

    return evaluation.run(work)


def _in_pieces(evaluation: Evaluation, folder: Location, drive: Drive) -> Ranking:
    """Ranks by pieces of work; the engine is begun with the first queries that no earlier start has ranked."""

    @contextmanager
    def ranking() -> Iterator[Rank]:
        with ExitStack() as stack:
            engine = kept(lambda: stack.enter_context(drive()))
            yield InParts(evaluation.embeddings, folder, engine, evaluation.settings.products)

    return ranking


def _trec(folder: Location, evaluation: Evaluation, ranked: Mapping[str, NDArray[np.int64]]) -> TrecPart | None:
    if evaluation.settings.trec is None:
        return None
    with tempfile.TemporaryDirectory(prefix="clipmill-trec-") as scratch:
        return write_trec(folder, evaluation.embeddings, evaluation.settings.trec, Path(scratch), ranked)


def _mteb(folder: Location, evaluation: Evaluation, report: Report, zero_shot: ZeroShot | None) -> MtebPart | None:
    if not evaluation.settings.mteb:
        return None
    with tempfile.TemporaryDirectory(prefix="clipmill-mteb-") as scratch:
        return write_mteb(folder, evaluation.embeddings, report, zero_shot, Path(scratch))


def told_to(reporter: Reporter, unit: str = "queries") -> Progress:
    """What measurements are given to tell their progress, from a reporter."""

    @contextmanager
    def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
        done = 0

        def step(queries: int) -> None:
            nonlocal done
            done += queries
            reporter.progress(f"evaluate {what}", done, total, unit)

        step(0)
        yield step

    return progress


def _measured(
    evaluation: Evaluation,
    index: IndexManifest | None,
    loaders: tuple[LoadEncoder, LoadPromptTower | None],
    cache: Path,
    progress: Progress,
    checkpoint: CheckpointFolder,
    ranking: Ranking,
) -> tuple[Report, Quality]:
    settings, embeddings = evaluation.settings, evaluation.embeddings
    started = datetime.now(timezone.utc)
    identity = embeddings.manifest.model

    def encoder() -> Encode:
        assert identity is not None  # zero-shot is not tried without a model
        return loaders[0](identity)

    def tower() -> PromptTower | None:
        return loaders[1](identity) if loaders[1] and identity else None

    with tempfile.TemporaryDirectory(prefix="clipmill-evaluate-") as scratch:
        prompts = PromptCache(cache.expanduser() / "prompts")
        towers = (prompts, tower, ranking)
        quality = measure_quality(embeddings, settings, encoder, Path(scratch), progress, checkpoint, *towers)
    measured, absences = None, not_asked_for(settings)
    if index is None:
        absences.append(Absence("Index fidelity", "no --index was given"))
    if index and settings.index:
        fidelity, through, slices = measure_index(
            settings.index, embeddings, settings, cache, quality.asked, progress, checkpoint
        )
        measured = MeasuredIndex(storage.resolve(settings.index).uri, index, fidelity, through, slices)
    began = started - timedelta(seconds=checkpoint.seconds_saved)  # as if it had been done at one go
    making = Making(_command(settings), settings.content(), evaluation.inputs, began, settings.probe_train)
    return assemble(embeddings, quality, measured, making, absences), quality


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
    if settings.queries is not None:
        inputs["query file"] = Searches.of(settings.queries, "--queries").sha256
    if settings.probe_train:
        inputs["probe training manifest"] = Embeddings.open(settings.probe_train).manifest_sha256
    for corrupted in open_corrupted(embeddings, settings.robustness):
        inputs[f"embeddings manifest of {corrupted.corruption}"] = corrupted.embeddings.manifest_sha256
    return inputs


def _command(settings: EvaluateSettings) -> str:
    """The command line that makes this report; options at their defaults are left out."""
    words = ["clipmill", "evaluate"]
    for name, value in settings.model_dump(mode="json").items():
        if name != "overwrite" and value not in (EvaluateSettings.model_fields[name].default, []):
            option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            one = [] if isinstance(value, bool) else [str(value)]
            if option_of(EvaluateSettings, name).separated:
                one, value = [",".join(map(str, value))], None
            values = [[str(part)] for part in value] if isinstance(value, list) else [one]
            words += [word for given in values for word in (option, *given)]
    return shlex.join(words)
