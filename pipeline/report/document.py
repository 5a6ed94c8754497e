"""The schema of ``report.json``, which holds everything that the page and the table show.

``schema_version`` rises when a field changes its meaning or goes; new fields may come without. Proportions are fractions
from 0 to 1, never percentages; times are UTC; a figure that could not be measured is absent and listed in ``absences``.
`Report.model_json_schema()` is the JSON schema.
"""

from datetime import datetime
from typing import Any, Literal

from pipeline.schemas import Counts, ModelIdentity, Record

REPORT_VERSION = 1
Unit = Literal[
    "proportion", "ratio", "rank", "cosine", "nats", "milliseconds", "bytes", "per second", "count", "seconds"
]


class Figure(Record):
    """One number: ``value`` over ``n`` cases, its 95% interval where it has one, and the sentence that defines it."""

    name: str
    title: str
    value: float
    unit: Unit
    definition: str
    low: float | None = None
    high: float | None = None
    n: int | None = None


class HistogramData(Record):
    """``counts[i]`` values in [``edges[i]``, ``edges[i + 1]``)."""

    name: str
    edges: list[float]
    counts: list[int]
    mean: float
    n: int


class RetrievalPart(Record):
    """One direction of retrieval. ``ceiling`` and ``curve`` map K to R@K: what any model can expect, what this one has."""

    direction: Literal["t2i", "i2t"]
    queries: int
    gallery: int
    without_positive: int
    gallery_only: int
    ties: int
    figures: list[Figure]
    ceiling: dict[int, float]
    curve: dict[int, float]
    repeated_captions: int
    repeated_images: int


class Result(Record):
    """One image that a query returned. ``image`` is its position among the dataset's images."""

    image: int
    row: int
    id: str
    score: float
    positive: bool


class ExamplePart(Record):
    """A caption used as a query: why it is shown, the rank of its own image, and what exact search returned."""

    kind: Literal["best", "typical", "worst"]
    caption: str
    row: int
    id: str
    rank: float
    own: Result
    results: list[Result]


class PairPart(Record):
    """A caption and its own image that hardly match, by cosine."""

    caption: str
    caption_index: int
    own: Result


class AlignmentPart(Record):
    """How the two towers fit."""

    figures: list[Figure]
    matched: HistogramData
    unmatched: HistogramData
    worst: list[PairPart]


class ClassPart(Record):
    """One class: its images, and the share of them that got it."""

    name: str
    support: int
    recall: float


class Confusion(Record):
    """Images of one class that were given another."""

    truth: str
    given: str
    count: int


class ZeroShotPart(Record):
    """Zero-shot classification by the labels in one column. ``classes`` in falling order of recall."""

    column: str
    templates_name: str
    templates: list[str]
    images: int
    unlabelled: int
    figures: list[Figure]
    classes: list[ClassPart]
    confusions: list[Confusion]


class FidelityPart(Record):
    """An index against exact search over the same stored vectors."""

    uri: str
    factory: str
    exact: bool
    gallery: str
    n: int
    query_kind: str
    queries: int
    nprobe: int
    rerank: int
    figures: list[Figure]
    latency: HistogramData
    memory: dict[str, int]


class Missing(Record):
    """What was not measured, and why."""

    what: str
    why: str


class DatasetPart(Record):
    """The embeddings that were evaluated."""

    uri: str
    name: str
    dimension: int
    counts: Counts
    columns: list[str]


class Report(Record):
    """``report.json``. ``inputs`` are the sha256 of what was read; ``pictures`` maps image positions to data URIs."""

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
