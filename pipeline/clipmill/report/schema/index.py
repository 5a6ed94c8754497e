"""Index fidelity in ``report.json``."""

from clipmill.core.manifests import GALLERY_VECTORS, Record, queries_in_words
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.results import HistogramData, SlicesPart, ThroughPart


class FidelityPart(Record):
    """An index against exact search over the same stored vectors, and the model's recall ``through`` it."""

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
    slices: SlicesPart | None = None

    @property
    def asked_with(self) -> str:
        """The queries in words."""
        return queries_in_words(self.query_kind, self.gallery)

    @property
    def asks_as_users(self) -> bool:
        """Whether the queries are of the kind that will be asked."""
        return self.query_kind != GALLERY_VECTORS
