"""Retrieval in ``report.json``: every direction, and example queries with the images that they returned."""

from typing import Literal

from pydantic import Field

from clipmill.core.manifests import Record
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.figures import Figure


class StratumPart(Record):
    """``drawn`` of ``queries`` queries, at random."""

    drawn: int
    queries: int


class SampledPart(Record):
    """The queries are a sample: of ``of`` queries, with ``seed``, by ``strata``: one, or one for each rate at which slices of
    ``columns`` were drawn."""

    of: int
    seed: int
    columns: list[str]
    strata: list[StratumPart]

    def in_words(self, queries: int) -> str:
        """A sentence on so many ``queries`` that were drawn."""
        text = f"{queries:,} of {self.of:,} queries were drawn (seed {self.seed}"
        if len(self.strata) > 1:
            rates = ", ".join(f"{stratum.drawn:,} of {stratum.queries:,}" for stratum in self.strata)
            text += f"; relatively more of small slices of {', '.join(self.columns)}: {rates}"
        return (
            f"{text}). Figures are estimates for all, and intervals cover the draw; --query-sample all ranks every one."
        )


class RetrievalPart(Record):
    """One direction of retrieval. ``ceiling`` and ``curve`` map K to R@K: what any model can expect, what this one has.

    ``smaller`` maps K, and then sizes of random galleries, to the expected R@K; ``most_positives`` is the most answers
    that any query has. Where not all queries were ranked, ``queries`` are those that were, and figures are estimates for all
    that ``sampled`` names.
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
    sampled: SampledPart | None = None

    @property
    def drawn(self) -> str:
        """What was drawn and by what, in a sentence; empty where all queries were ranked."""
        return self.sampled.in_words(self.queries) if self.sampled else ""

    @property
    def asked(self) -> str:
        """How many queries, and of how many, in words."""
        drawn = f" drawn of {self.sampled.of:,}" if self.sampled else ""
        return f"{self.queries:,} queries{drawn}"


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
