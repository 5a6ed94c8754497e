"""The space in ``report.json``: how the towers fit, its shape, and pairs and images to look at."""

from clipmill.core.manifests import Record
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.results import HistogramData
from clipmill.report.schema.retrieval import Result


class PairPart(Record):
    """A caption and its own image that hardly match, by cosine."""

    caption: str | None
    caption_index: int
    own: Result


class AlignmentPart(Record):
    """How the two towers fit: cosines of matched and unmatched pairs, losses, and the worst pairs."""

    figures: list[Figure]
    matched: HistogramData
    unmatched: HistogramData
    worst: list[PairPart]


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
