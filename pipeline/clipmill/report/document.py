"""The schema of ``report.json``, which holds everything that the page and the table show.

``schema_version`` rises when a field changes its meaning or goes; new fields may come without. Proportions are fractions
from 0 to 1, never percentages; times are UTC; a figure that could not be measured is absent and listed in ``absences``.
Each figure has a ``key`` by which it is looked up; figures of reports without keys get theirs when they are read
(`clipmill.evaluation.figures.Keyed`). `Report.model_json_schema()` is the JSON schema.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field

from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    Counts,
    ModelIdentity,
    Name,
    Record,
    Sha256,
)
from clipmill.evaluation.figures import Figure, find
from clipmill.evaluation.results import ProtocolPart, RobustnessPart, SlicesPart
from clipmill.report.schema.classification import ProbePart, ZeroShotPart
from clipmill.report.schema.index import FidelityPart
from clipmill.report.schema.retrieval import ExamplePart, RetrievalPart
from clipmill.report.schema.shown import ClusterPart, ListedPart, MapPart, SheetPart
from clipmill.report.schema.space import AlignmentPart, SpacePart
from clipmill.report.schema.texts import TextsPart

REPORT_VERSION = 1
PAGE_VERSION = 5
"""Rises when the page, the table or the summary shows the same report differently: `verify` makes those of its own version
again and compares them."""


class KeptQueries(Record):
    """Of the queries ``asked`` of a task, those ``kept`` in the file: all whose source row has a 32-bit hash below
    ``hash_below``, which is 2³² where all are kept. Those that were asked are a sample of ``of``, drawn with ``seed``; null:
    all were asked."""

    asked: int
    kept: int
    hash_below: int
    of: int | None = None
    seed: int | None = None


class QueriesPart(Record):
    """The file beside this one that holds the outcome of each query (`clipmill.report.queries`), by task."""

    file: Name
    sha256: Sha256
    tasks: dict[str, KeptQueries]


class TrecPart(Record):
    """TREC run and qrels files beside this one (`clipmill.report.trec`): the first ``depth`` results of every query, and the
    sha256 of each file by its name."""

    depth: int
    files: dict[str, str]


class MtebPart(Record):
    """Files beside this one that MTEB reads (`clipmill.report.mteb_results`): the sha256 of each by its name."""

    files: dict[str, str]


class PublishedFigure(Record):
    """One figure of a model on a public dataset, as published."""

    dataset: str
    task: str
    title: str
    value: float


class PublishedPart(Record):
    """What others published of the model. ``figures`` are those of the weights called ``pretrained``; none, and null,
    where only the architecture is known. GFLOPs are twice the multiply-adds, of one image and one text."""

    model: str
    pretrained: str | None
    source: str
    figures: list[PublishedFigure]
    parameters: float
    image_gflops: float
    text_gflops: float


class FindingPart(Record):
    """Something that is worth acting on: ``text`` says what and how much of it, ``command`` what to type. ``affected`` rows are
    the ``share`` of those that were looked at."""

    kind: Literal["captions", "duplicates", "labels", "slice", "index"]
    text: str
    command: str
    affected: int
    share: float


class RejectPart(Record):
    """An image or caption that could not be used: the file or URI that it came from, and why."""

    reason: str
    kind: str
    id: str
    source: str
    detail: str


class Missing(Record):
    """What was not measured, and why."""

    what: str
    why: str


class DatasetPart(Record):
    """The embeddings that were evaluated, or the texts."""

    uri: str
    name: str
    dimension: int
    counts: Counts
    columns: list[str]

    @property
    def title(self) -> str:
        """The name of the folder; of embeddings called just that, the folder around them too."""
        around = self.uri.rstrip("/").split("/")[-2:-1]
        return "/".join([*around, self.name]) if self.name == "embeddings" else self.name


class Report(Record):
    """``report.json``. ``inputs`` are the sha256 of what was read; ``pictures`` maps image positions to data URIs;
    ``plan`` is the forecast for the run that this version is of, and what it took; ``caution`` is what has to be known before
    anything on the page is believed, ``findings`` what is worth acting on, the most affected first;
    ``rejects`` are the first of each reason; ``sheet`` has small pictures of what is on the ``map`` and ``listed``;
    ``page_version`` is that of the files beside it, which show it."""

    LATER: ClassVar[tuple[str, ...]] = ("mteb",)
    kind: Literal["report"] = "report"
    schema_version: int = REPORT_VERSION
    created: datetime
    seconds: float
    command: str
    settings: dict[str, Any]
    inputs: dict[str, str | None]
    dataset: DatasetPart
    model: ModelIdentity | None
    summary: list[str]
    retrieval: list[RetrievalPart]
    examples: list[ExamplePart]
    alignment: AlignmentPart | None
    zero_shot: ZeroShotPart | None
    fidelity: FidelityPart | None
    cost: list[Figure]
    pictures: dict[int, str]
    absences: list[Missing]
    notes: list[str]
    software: dict[str, str]
    hardware: dict[str, Any]
    queries: QueriesPart | None = None
    published: PublishedPart | None = None
    protocols: list[ProtocolPart] = Field(default_factory=list)
    space: SpacePart | None = None
    slices: SlicesPart | None = None
    corruption: RobustnessPart | None = None
    writing: RobustnessPart | None = None
    widths: RobustnessPart | None = None
    probe: ProbePart | None = None
    plan: Forecast | None = None
    trec: TrecPart | None = None
    mteb: MtebPart | None = None
    texts: TextsPart | None = None
    caution: str = ""
    rejects: list[RejectPart] = Field(default_factory=list)
    findings: list[FindingPart] = Field(default_factory=list)
    map: MapPart | None = None
    clusters: list[ClusterPart] = Field(default_factory=list)
    listed: ListedPart | None = None
    sheet: SheetPart | None = None
    page_version: int = 1

    @property
    def main_figures(self) -> list[Figure]:
        """What says how good and how costly the model and the index are: what reports are compared by."""
        return _figures_of(*self.retrieval, self.zero_shot, self.texts, self.fidelity) + self.cost

    @property
    def figures(self) -> list[Figure]:
        """Every figure over the whole dataset, each key once. Slices and variations have figures of the same keys."""
        found = self.main_figures + _figures_of(*self.protocols, self.alignment, self.space, self.probe)
        if self.fidelity:
            found += _figures_of(self.fidelity.through)
        if self.zero_shot:
            found += _figures_of(self.zero_shot.calibration, self.zero_shot.template_effect)
        if self.probe:
            found += [shots.figure for shots in self.probe.shots]
            found += [self.probe.zero_shot] if self.probe.zero_shot else []
        return found

    def figure(self, key: str) -> Figure | None:
        """The figure of this key; None where it was not measured."""
        return find(self.figures, key)


class _WithFigures(Protocol):
    @property
    def figures(self) -> list[Figure]: ...


def _figures_of(*parts: _WithFigures | None) -> list[Figure]:
    return [figure for part in parts if part is not None for figure in part.figures]
