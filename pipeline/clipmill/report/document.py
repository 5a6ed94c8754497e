"""The schema of ``report.json``, which holds everything that the page and the table show.

``schema_version`` rises when a field changes its meaning or goes; new fields may come without. Proportions are fractions
from 0 to 1, never percentages; times are UTC; a figure that could not be measured is absent and listed in ``absences``.
`Report.model_json_schema()` is the JSON schema.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from clipmill.core.manifests import Counts, Forecast, ModelIdentity, Record

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
    """One direction of retrieval. ``ceiling`` and ``curve`` map K to R@K: what any model can expect, what this one has.

    ``smaller`` maps K, and then sizes of random galleries, to the expected R@K; ``most_positives`` is the most answers
    that any query has.
    """

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
    most_positives: int = 1
    smaller: dict[int, dict[int, float]] = Field(default_factory=dict)


class ProtocolPart(Record):
    """One direction of a COCO protocol: ``folds`` galleries of ``images`` images, with ``captions`` in all."""

    name: str
    direction: Literal["t2i", "i2t"]
    folds: int
    images: int
    captions: int
    figures: list[Figure]


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


class NearPart(Record):
    """Two images that are nearly the same, by their cosine."""

    one: Result
    other: Result


class SpacePart(Record):
    """The shape of the space. ``outliers`` have the cosine with their ``neighbours``-th nearest other image as score,
    ``near`` those of the pair."""

    figures: list[Figure]
    outliers: list[Result]
    neighbours: int
    near: list[NearPart]


class SliceFigure(Record):
    """A figure over the queries of one slice, by the ``name`` of the whole's. ``p_value`` is one-sided, of the hypothesis
    that the slice does no worse than the rest; ``adjusted`` the same after Holm's correction over all comparisons."""

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    p_value: float | None
    adjusted: float | None
    worse: bool


class SlicePart(Record):
    """One slice: a value, a range of values, all other values, or null."""

    kind: Literal["value", "range", "other", "null"]
    text: str
    images: int
    figures: list[SliceFigure]


class SlicedColumnPart(Record):
    """The slices of one column."""

    column: str
    slices: list[SlicePart]


class SlicesPart(Record):
    """Figures by slices; ``figures`` are those of the whole dataset. ``comparisons`` were made, at a level of ``level``."""

    figures: list[Figure]
    columns: list[SlicedColumnPart]
    comparisons: int
    level: float


class VariationPart(Record):
    """Figures with the same queries varied, and ``changes`` from the unvaried: their paired differences, by name."""

    name: str
    strength: int
    amount: str
    example: str
    figures: list[Figure]
    changes: list[Figure]


class RobustnessPart(Record):
    """Figures without (``clean``) and with each variation, on the same queries."""

    clean: list[Figure]
    variations: list[VariationPart]


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


class ReliabilityBin(Record):
    """Images whose confidence is in (``above``, ``up_to``]: mean confidence, and the share that was right with its 95%
    interval; these are null where there are none."""

    above: float
    up_to: float
    images: int
    confidence: float | None
    accuracy: float | None
    low: float | None
    high: float | None


class CalibrationPart(Record):
    """How far the softmax over classes at ``logit_scale`` can be taken for a probability."""

    logit_scale: float
    figures: list[Figure]
    bins: list[ReliabilityBin]


class TemplatePart(Record):
    """One template used alone: acc1, and its paired difference from all templates together on the same images."""

    template: str
    acc1: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


class TemplatesPart(Record):
    """What each template brings: ``figures`` of all together and of the mean one, and each, from best to worst."""

    figures: list[Figure]
    templates: list[TemplatePart]


class SweepPoint(Record):
    """Validation accuracy with C = 10^``exponent``, the inverse strength of the L2 penalty."""

    exponent: float
    accuracy: float


class ShotsPart(Record):
    """Few-shot accuracy with ``shots`` training images a class, over ``draws``; ``exponent`` is log₁₀ of C."""

    shots: int
    figure: Figure
    draws: list[float]
    exponent: float


class ProbePart(Record):
    """Classifiers trained on frozen embeddings: those of ``trained_on``, or a part of the evaluated ones where null."""

    column: str
    trained_on: str | None
    classes: int
    train: int
    validation: int
    test: int
    figures: list[Figure]
    exponent: float
    sweep: list[SweepPoint]
    shots: list[ShotsPart]
    zero_shot: Figure | None


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
    without_images: int = 0
    calibration: CalibrationPart | None = None
    template_effect: TemplatesPart | None = None


class ThroughPart(Record):
    """R@K of the model through an index: three figures for each K, by exact search, through the index, the difference."""

    direction: Literal["t2i", "i2t"]
    queries: int
    figures: list[Figure]


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
    through: ThroughPart | None = None


class KeptQueries(Record):
    """Of the queries ``asked`` of a task, those ``kept`` in the file: all whose source row has a 32-bit hash below
    ``hash_below``, which is 2³² where all are kept."""

    asked: int
    kept: int
    hash_below: int


class QueriesPart(Record):
    """The file beside this one that says how each query came out (`clipmill.report.queries`), by task."""

    file: str
    sha256: str
    tasks: dict[str, KeptQueries]


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
    """``report.json``. ``inputs`` are the sha256 of what was read; ``pictures`` maps image positions to data URIs;
    ``plan`` is what the run that this version is of should take, and took."""

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
    probe: ProbePart | None = None
    plan: Forecast | None = None
