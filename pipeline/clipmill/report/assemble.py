"""Everything measured, put together as one document."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from clipmill.core.environment import hardware, software
from clipmill.core.manifests import IndexManifest
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.caution import caution, published_at
from clipmill.evaluation.fidelity import Fidelity
from clipmill.evaluation.progress import Absence
from clipmill.evaluation.quality import Quality
from clipmill.evaluation.results import SlicesPart, ThroughPart
from clipmill.report.document import PAGE_VERSION, DatasetPart, Missing, RejectPart, Report
from clipmill.report.findings import findings
from clipmill.report.lookup import first_rejects, pictures_at
from clipmill.report.parts.alignment import alignment_part
from clipmill.report.parts.cost import cost_figures
from clipmill.report.parts.fidelity import fidelity_part
from clipmill.report.parts.probe import probe_part
from clipmill.report.parts.retrieval import example_parts, retrieval_part
from clipmill.report.parts.shown import cluster_parts, listed_part, map_part
from clipmill.report.parts.space import space_part
from clipmill.report.parts.zero_shot import zero_shot_part
from clipmill.report.published import published_of
from clipmill.report.schema.index import FidelityPart
from clipmill.report.schema.retrieval import Result
from clipmill.report.sheet import sheet_of
from clipmill.report.summary import summary


@dataclass(frozen=True)
class MeasuredIndex:
    """An index, where it lies, and what was measured of it."""

    uri: str
    manifest: IndexManifest
    fidelity: Fidelity
    through: ThroughPart | None = None
    slices: SlicesPart | None = None


@dataclass(frozen=True)
class Making:
    """How a report came about: its command, its settings, the sha256 of what was read, and when it began."""

    command: str
    settings: dict[str, Any]
    inputs: dict[str, str | None]
    started: datetime
    trained_on: str | None = None


def _fidelity(index: MeasuredIndex, *, resident: bool) -> FidelityPart:
    return fidelity_part(index.fidelity, index.manifest, index.uri, index.through, index.slices, resident=resident)


def assemble(
    embeddings: Embeddings,
    quality: Quality,
    index: MeasuredIndex | None,
    making: Making,
    absences: list[Absence] | None = None,
) -> Report:
    """The document of one evaluation; ``absences`` are those besides the ones of ``quality``."""
    manifest, studies, column = embeddings.manifest, quality.studies, quality.label_column
    templates = making.settings["templates"], quality.templates
    finished = datetime.now(timezone.utc)
    report = Report(
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
        summary=[],
        retrieval=[
            retrieval_part(result, quality.ceilings[name], making.settings)
            for name, result in quality.retrieval.items()
        ],
        examples=example_parts(embeddings, quality.examples),
        alignment=alignment_part(embeddings, quality.alignment) if quality.alignment else None,
        zero_shot=zero_shot_part(quality.zero_shot, column, *templates) if quality.zero_shot and column else None,
        fidelity=_fidelity(index, resident=bool(making.settings.get("resident"))) if index else None,
        cost=cost_figures(embeddings),
        pictures={},
        absences=[Missing(what=absence.what, why=absence.why) for absence in [*quality.absences, *(absences or [])]],
        notes=quality.notes,
        software=software(),
        hardware=hardware(),
        published=published_of(manifest.model),
        protocols=quality.protocols,
        space=space_part(embeddings, studies.space, studies.outliers) if studies.space else None,
        slices=studies.slices,
        corruption=studies.corruption,
        writing=studies.writing,
        widths=studies.widths,
        probe=probe_part(quality.supervised, column, making.trained_on) if quality.supervised and column else None,
        caution=_caution(embeddings),
        rejects=[RejectPart(**one) for one in first_rejects(embeddings)],
        map=map_part(embeddings, studies.map, quality.shown) if studies.map else None,
        clusters=cluster_parts(embeddings, studies.clusters, quality.shown.cluster_names) if studies.clusters else [],
        listed=listed_part(embeddings, quality.shown, quality.outcomes),
        page_version=PAGE_VERSION,
    )
    pictures = pictures_at(embeddings, {result.image for result in _shown(report)})
    told = {"summary": summary(report), "findings": findings(report, quality.suspects)}
    return report.model_copy(update={"pictures": pictures, "sheet": sheet_of(embeddings, _small(report)), **told})


def _caution(embeddings: Embeddings) -> str:
    manifest = embeddings.manifest
    source = manifest.configuration.get("input")
    return caution(manifest.model, manifest.kept_columns, source, published_at(embeddings.location.uri))


def _shown(report: Report) -> Iterator[Result]:
    """The images that the page shows."""
    for example in report.examples:
        yield from (example.own, *example.results)
    if report.alignment:
        yield from (pair.own for pair in report.alignment.worst)
    if report.space:
        yield from report.space.outliers
        yield from (result for pair in report.space.near for result in (pair.one, pair.other))
    yield from (result for cluster in report.clusters for result in cluster.typical)


def _small(report: Report) -> set[int]:
    """The images of which the page has a small picture."""
    queries = report.listed.queries if report.listed else []
    return {*(report.map.images if report.map else []), *(query.image for query in queries if query.image is not None)}
