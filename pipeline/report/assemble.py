"""Everything measured, put together as one document."""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pipeline.datasets import Embeddings
from pipeline.environment import hardware, software
from pipeline.evaluate.fidelity import Fidelity
from pipeline.evaluate.quality import Absence, Quality
from pipeline.report.document import DatasetPart, Missing, Report
from pipeline.report.lookup import pictures_at
from pipeline.report.parts.alignment import alignment_part
from pipeline.report.parts.cost import cost_figures
from pipeline.report.parts.fidelity import fidelity_part
from pipeline.report.parts.retrieval import example_parts, retrieval_part
from pipeline.report.parts.zero_shot import zero_shot_part
from pipeline.report.summary import summary
from pipeline.schemas import IndexManifest


@dataclass(frozen=True)
class MeasuredIndex:
    """An index, where it lies, and what was measured of it."""

    uri: str
    manifest: IndexManifest
    fidelity: Fidelity


@dataclass(frozen=True)
class Making:
    """How a report came about: its command, its settings, the sha256 of what was read, and when it began."""

    command: str
    settings: dict[str, Any]
    inputs: dict[str, str | None]
    started: datetime


def assemble(
    embeddings: Embeddings,
    quality: Quality,
    index: MeasuredIndex | None,
    making: Making,
    absences: list[Absence] | None = None,
) -> Report:
    """The document of one evaluation; ``absences`` are those beside the ones that ``quality`` has."""
    manifest = embeddings.manifest
    retrieval = [retrieval_part(result, quality.ceilings[name]) for name, result in quality.retrieval.items()]
    examples = example_parts(embeddings, quality.examples)
    alignment = alignment_part(embeddings, quality.alignment) if quality.alignment else None
    zero_shot = (
        zero_shot_part(quality.zero_shot, quality.label_column, making.settings["templates"], quality.templates)
        if quality.zero_shot and quality.label_column
        else None
    )
    fidelity = fidelity_part(index.fidelity, index.manifest, index.uri) if index else None
    shown = {result.image for example in examples for result in (example.own, *example.results)}
    shown |= {pair.own.image for pair in alignment.worst} if alignment else set()
    finished = datetime.now(timezone.utc)
    return Report(
        created=finished,
        seconds=(finished - making.started).total_seconds(),
        command=making.command,
        settings=making.settings,
        inputs=making.inputs,
        dataset=DatasetPart(
            uri=embeddings.location.uri,
            name=embeddings.location.name,
            dimension=manifest.dimension,
            counts=manifest.counts,
            columns=manifest.kept_columns,
        ),
        model=manifest.model,
        summary=summary(manifest.counts, retrieval, zero_shot, fidelity, manifest.dimension),
        retrieval=retrieval,
        examples=examples,
        alignment=alignment,
        zero_shot=zero_shot,
        fidelity=fidelity,
        cost=cost_figures(embeddings),
        pictures=pictures_at(embeddings, shown),
        absences=[Missing(what=absence.what, why=absence.why) for absence in [*quality.absences, *(absences or [])]],
        notes=quality.notes,
        software=software(),
        hardware=hardware(),
    )
