"""Retrieval in ``report.json``: every direction, and example queries with the images that they returned."""

from typing import Literal

from pydantic import Field

from clipmill.core.manifests import Record
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.figures import Figure


class RetrievalPart(Record):
    """One direction of retrieval. ``ceiling`` and ``curve`` map K to R@K: what any model can expect, what this one has.

    ``smaller`` maps K, and then sizes of random galleries, to the expected R@K; ``most_positives`` is the most answers
    that any query has.
    """

    direction: Direction
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
    caption: str | None
    row: int
    id: str
    rank: float
    own: Result
    results: list[Result]
