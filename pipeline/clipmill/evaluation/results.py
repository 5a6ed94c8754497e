"""What measurements hand to a report as it is: parts of ``report.json`` that need nothing but what was measured."""

from typing import Literal

from clipmill.core.manifests import Record
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.figures import Figure, Keyed


class HistogramData(Record):
    """``counts[i]`` values in [``edges[i]``, ``edges[i + 1]``), the last bin closed; ``mean`` and ``n`` are of all."""

    name: str
    edges: list[float]
    counts: list[int]
    mean: float
    n: int


class ProtocolPart(Record):
    """One direction of a COCO protocol: ``folds`` galleries of ``images`` images, with ``captions`` in all."""

    name: str
    direction: Direction
    folds: int
    images: int
    captions: int
    figures: list[Figure]


class ThroughPart(Record):
    """R@K of the model through an index: three figures for each K, by exact search, through the index, the difference."""

    direction: Direction
    queries: int
    figures: list[Figure]


class SliceFigure(Keyed):
    """A figure over the queries of one slice, by the ``key`` of the whole's. ``p_value`` is one-sided, of the hypothesis
    that the slice does no worse than the rest, and ``adjusted`` the same after Holm's correction over all comparisons; both
    are null where there is no rest."""

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
    """Figures with the same queries varied, and ``changes`` from the unvaried: their paired differences, by key.

    ``name`` and ``strength`` are a kind of corruption with 1 to 5, whose ``amount`` is in words, or a way of writing with 0;
    ``example`` is a text written in that way.
    """

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
