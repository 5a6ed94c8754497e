"""The proof of a training run: the model before and after, on what it was trained for and on what it was not."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from clipmill import storage
from clipmill.core.reporter import Reporter
from clipmill.core.settings import (
    ClusterSettings,
    CompareSettings,
    EmbedSettings,
    EvaluateSettings,
    TrainSettings,
    build,
)
from clipmill.runs.stages import embed_stage, evaluate_stage, replacing
from clipmill.train.checkpoint import ModelRecord

REPORT_FILE, PAGE_FILE = "training.json", "training.html"


def report_training(
    settings: TrainSettings, record: ModelRecord, cluster: ClusterSettings, reporter: Reporter
) -> list[str]:
    """Embeds and evaluates every held-out set with the model as it was and as it is, compares the two, and writes a page
    at ``settings.report``; returns what it says, a line each.

    What was done before is not done again. A model that was trained from fresh weights has no before.
    """
    from clipmill.report.training.document import Set, TrainingReport
    from clipmill.report.training.page import html_text

    assert settings.report is not None
    root = settings.report.rstrip("/")
    sets = []
    for name, uri in _sets(settings):
        reporter.message("train", f"evaluating on {uri}")
        after = _evaluated(f"{root}/{name}/after", uri, {"pretrained": settings.output}, settings, cluster, reporter)
        sentences: tuple[str, ...] = ("there was no trained model before",)
        page = f"{name}/after/report/report.html"
        if settings.pretrained:
            start = {key: getattr(settings, key) for key in ("model", "pretrained", "preprocessing")}
            before = _evaluated(f"{root}/{name}/before", uri, start, settings, cluster, reporter)
            sentences, page = (
                _compared(f"{root}/{name}/comparison", before, after),
                f"{name}/comparison/comparison.html",
            )
        sets.append(Set(name=name, uri=uri, trained_for=name == "validation", sentences=sentences, page=page))
    told: dict[str, Any] = record.model_dump()
    report = TrainingReport(
        created=datetime.now(timezone.utc),
        output=settings.output,
        steps=told["steps_done"],
        sets=tuple(sets),
        **{
            key: told[key]
            for key in ("model", "rows", "seconds", "workers", "hardware", "losses", "validations", "software")
        },
    )
    place = storage.resolve_output(root)
    storage.write_bytes(place / REPORT_FILE, report.model_dump_json(indent=2).encode())
    storage.write_bytes(place / PAGE_FILE, html_text(report).encode())
    return [f"{one.name}: {sentence}" for one in sets for sentence in one.sentences]


def _sets(settings: TrainSettings) -> list[tuple[str, str]]:
    others = [(f"other-{number}", uri) for number, uri in enumerate(settings.compare_on, start=1)]
    return [*([("validation", settings.validation)] if settings.validation else []), *others]


def _evaluated(
    place: str, uri: str, model: dict[str, Any], settings: TrainSettings, cluster: ClusterSettings, reporter: Reporter
) -> str:
    """Embeddings and report of one model on one set; returns where the report is.

    The columns that the settings name are those of the input and of --validation. Another set has its own, found by their
    names; it has labels only where its column of them is called the same.
    """
    named = ("image_column", "caption_column") if uri == settings.validation else ()
    values = {
        "input": uri,
        "output": f"{place}/embeddings",
        "allow_outside": settings.allow_outside,
        **{key: getattr(settings, key) for key in named},
        **model,
    }
    embedded = build(EmbedSettings, {key: value for key, value in values.items() if value is not None})
    kept = replacing(embedded, lambda chosen: embed_stage(chosen, cluster, reporter)).manifest.kept_columns
    evaluated = EvaluateSettings(
        embeddings=embedded.output,
        output=f"{place}/report",
        label_column=settings.label_column if settings.label_column in kept else None,
        templates=settings.templates,
    )
    replacing(evaluated, lambda chosen: evaluate_stage(chosen, reporter, cluster=cluster))
    return evaluated.output


def _compared(place: str, before: str, after: str) -> tuple[str, ...]:
    """The comparison of two reports in a few sentences."""
    from clipmill.report.comparison.comparison import make_comparison

    settings = CompareSettings(reports=(before, after), output=place)
    return tuple(replacing(settings, make_comparison).manifest.summary)
