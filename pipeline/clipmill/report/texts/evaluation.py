"""One evaluation of texts from its settings to its report: what is already there, what to measure, what to publish."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from clipmill.core import environment
from clipmill.core.counts import Counts
from clipmill.core.manifests import ModelIdentity
from clipmill.core.reporter import Reporter
from clipmill.core.settings import TextEvaluationSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.evaluation.progress import Absence
from clipmill.evaluation.texts.corpus import Corpus, Source, open_source
from clipmill.evaluation.texts.cosines import Fit, measure_cosines
from clipmill.evaluation.texts.measure import Resampling, TextQuality, measure_texts
from clipmill.report.document import PAGE_VERSION, DatasetPart, Missing, Report
from clipmill.report.evaluation import told_to
from clipmill.report.lookup import picture
from clipmill.report.schema.texts import TextsPart
from clipmill.report.texts.examples import choose, measures
from clipmill.report.texts.summary import sentences
from clipmill.report.write import REPORT, write_pages
from clipmill.source.decode import Rejected, decode_image, thumbnail
from clipmill.stage.checkpoints import CheckpointFolder
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Made, Stage, Work, configuration_differences
from clipmill.words.written import Written

_THUMBNAIL = 160
NO_MODEL = "--no-clip-score was given"


@dataclass(frozen=True)
class TextEvaluation(Stage[Report]):
    """A report of texts to be made, fixed before anything is measured. ``model`` is what tells how texts fit pictures, None
    where that is not asked for."""

    name = "evaluate"
    kind = REPORT
    settings: TextEvaluationSettings
    written: Written
    source: Source
    model: ModelIdentity | None

    @property
    def inputs(self) -> dict[str, str | None]:
        """sha256 of what is read, by name."""
        return {"texts manifest": self.written.manifest_sha256}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for measurements of one start to be of use to another."""
        model = self.model.model_dump(mode="json", exclude={"pretrained"}) if self.model else None
        return {"texts": self.settings.content(), "model": model, **self.inputs}

    def differences(self, found: Report) -> list[str]:
        """How a report at the output differs from what this measures, in words."""
        names = dict.fromkeys([*self.inputs, *found.inputs])
        told = [f"the {name} is another" for name in names if found.inputs.get(name) != self.inputs.get(name)]
        if found.model and self.model:
            told += [f"model {difference}" for difference in found.model.differences(self.model)]
        return told + configuration_differences(found.settings, self.settings.content())

    @property
    def outline(self) -> Outline:
        """Rows whose pictures are compared with their texts, some at a time."""
        step = Step(doing="measuring", total=len(self.source.units) if self.model else None, files={"parts/*.npz": 1})
        return Outline(stage=self.name, unit="parts", steps=(step,))


def make_text_evaluation(settings: TextEvaluationSettings, find_model: Callable[[], ModelIdentity]) -> TextEvaluation:
    """Opens what is to be evaluated. Raises UserError for what are no texts, and for an input that is another by now."""
    written = Written.open(settings.texts)
    source = open_source(settings, written)
    seen = settings.clip_score and source.columns.image_column is not None
    return TextEvaluation(settings, written, source, find_model() if seen else None)


def evaluate_texts(evaluation: TextEvaluation, fit: Fit, reporter: Reporter) -> Made[Report]:
    """Measures, and publishes the report. What an earlier start measured is not measured again."""

    def work(work: Work) -> Report:
        work.start()
        started, checkpoint = datetime.now(timezone.utc), CheckpointFolder(work.folder / "parts")
        settings, corpus = evaluation.settings, Corpus.of(evaluation.written, evaluation.source)
        cosines, model = None, evaluation.model
        if model is not None:
            cosines = measure_cosines(corpus, evaluation.source, fit, told_to(reporter, "texts"), checkpoint)
        resampling = Resampling(settings.bootstrap_samples, settings.seed)
        quality = measure_texts(corpus, cosines, model.name if model else "", resampling)
        if model is None:
            quality.absences.append(Absence("Fit to pictures", NO_MODEL))
        report = _assembled(evaluation, corpus, quality, started - timedelta(seconds=checkpoint.seconds_saved))
        report = report.model_copy(update={"pictures": _pictures(evaluation.source, report, fit)})
        report = report.model_copy(update={"summary": sentences(report)})
        write_pages(report, work.dataset)
        return report

    return evaluation.run(work)


def _assembled(evaluation: TextEvaluation, corpus: Corpus, quality: TextQuality, began: datetime) -> Report:
    manifest, settings, finished = evaluation.written.manifest, evaluation.settings, datetime.now(timezone.utc)
    ranked_by, against = measures(quality.values)
    part = TextsPart(
        generator=manifest.generator.name,
        prompt=manifest.configuration.get("prompt"),
        pictures=manifest.counts.answered,
        texts=len(corpus.texts),
        with_references=len(corpus.places_with(corpus.references)),
        with_answers=len(corpus.places_with(corpus.answers)),
        overlap=quality.texts,
        answers=quality.answers,
        examples=choose(corpus, quality.values),
        ranked_by=ranked_by,
        against=against,
    )
    return Report(
        created=finished,
        seconds=(finished - began).total_seconds(),
        command=_command(settings),
        settings=settings.content(),
        inputs=evaluation.inputs,
        dataset=DatasetPart(
            uri=evaluation.written.location.uri,
            name=evaluation.written.location.name,
            dimension=evaluation.model.dimension if evaluation.model else 0,
            counts=counts_of(manifest),
            columns=[],
        ),
        model=evaluation.model,
        summary=[],
        retrieval=[],
        examples=[],
        alignment=None,
        zero_shot=None,
        fidelity=None,
        cost=[],
        pictures={},
        absences=[Missing(what=absence.what, why=absence.why) for absence in quality.absences],
        notes=[],
        software=environment.software(),
        hardware=environment.hardware(),
        page_version=PAGE_VERSION,
        texts=part,
    )


def counts_of(manifest: TextsManifest) -> Counts:
    """What became of the rows that texts were written about, as reports count: a text is a caption."""
    counts = manifest.counts
    return Counts(
        rows=counts.rows,
        images=counts.rows - counts.rejected_images - counts.without_image_column,
        captions=counts.texts,
        rejected_images=counts.rejected_images,
        rejected_captions=counts.rejected_texts,
        without_image_column=counts.without_image_column,
        rejected_by_reason=counts.rejected_by_reason,
    )


def _pictures(source: Source, report: Report, fit: Fit) -> dict[int, str]:
    """Data URIs of the pictures of the texts that are shown, by row; without those that cannot be read."""
    assert report.texts is not None
    found: dict[int, str] = {}
    for row in sorted({example.row for example in report.texts.examples} if source.columns.image_column else ()):
        for raw in source.pictures(source.unit_of(row)):
            at = raw.column("row").to_pylist().index(row)
            one = raw.select(["image", "image_path", "source"]).slice(at, 1).to_pylist()[0]
            try:
                data = one["image"] or fit.fetch(one["image_path"] or "", one["source"])
                uri = picture(thumbnail(decode_image(data, fit.max_image_pixels), _THUMBNAIL))
            except Rejected:
                continue
            found |= {row: uri} if uri else {}
    return found


def _command(settings: TextEvaluationSettings) -> str:
    """The command line that makes this report; options at their defaults are left out."""
    words = ["clipmill", "evaluate"]
    for name, value in settings.model_dump(mode="json").items():
        if name == "overwrite" or value in (TextEvaluationSettings.model_fields[name].default, []):
            continue
        option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            words += [option] if isinstance(value, bool) else [option, str(one)]
    return shlex.join(words)
