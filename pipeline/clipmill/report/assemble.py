"""Everything measured, put together as one document."""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from clipmill.core.environment import hardware, software
from clipmill.core.manifests import IndexManifest
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.fidelity import Fidelity
from clipmill.evaluation.quality import Absence, Quality
from clipmill.evaluation.retrieval.through_index import ThroughIndex
from clipmill.report.document import DatasetPart, Missing, Report
from clipmill.report.lookup import pictures_at
from clipmill.report.parts.alignment import alignment_part
from clipmill.report.parts.cost import cost_figures
from clipmill.report.parts.fidelity import fidelity_part
from clipmill.report.parts.probe import probe_part
from clipmill.report.parts.retrieval import example_parts, protocol_parts, retrieval_part
from clipmill.report.parts.robustness import corruption_sentence, robustness_part
from clipmill.report.parts.slices import slices_part, slices_sentence
from clipmill.report.parts.space import space_part
from clipmill.report.parts.zero_shot import zero_shot_part
from clipmill.report.published import published_of
from clipmill.report.summary import summary


@dataclass(frozen=True)
class MeasuredIndex:
    """An index, where it lies, and what was measured of it."""

    uri: str
    manifest: IndexManifest
    fidelity: Fidelity
    through: ThroughIndex | None = None


@dataclass(frozen=True)
class Making:
    """How a report came about: its command, its settings, the sha256 of what was read, and when it began."""

    command: str
    settings: dict[str, Any]
    inputs: dict[str, str | None]
    started: datetime
    trained_on: str | None = None


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
    probe = (
        probe_part(quality.supervised, quality.label_column, making.trained_on)
        if quality.supervised and quality.label_column
        else None
    )
    studies = quality.studies
    space = space_part(embeddings, studies.space, studies.outliers) if studies.space else None
    slices = slices_part(studies.slices) if studies.slices else None
    corruption = robustness_part(studies.corruption) if studies.corruption else None
    fidelity = fidelity_part(index.fidelity, index.manifest, index.uri, index.through) if index else None
    shown = {result.image for example in examples for result in (example.own, *example.results)}
    shown |= {pair.own.image for pair in alignment.worst} if alignment else set()
    if space:
        shown |= {result.image for result in space.outliers}
        shown |= {result.image for pair in space.near for result in (pair.one, pair.other)}
    studied = [slices_sentence(slices) if slices else None, corruption_sentence(corruption) if corruption else None]
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
        summary=[
            *summary(manifest.counts, retrieval, zero_shot, fidelity, manifest.dimension, probe),
            *filter(None, studied),
        ],
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
        published=published_of(manifest.model),
        protocols=protocol_parts(quality.protocols),
        space=space,
        slices=slices,
        corruption=corruption,
        writing=robustness_part(studies.writing) if studies.writing else None,
        probe=probe,
    )
