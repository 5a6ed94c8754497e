"""Index fidelity in ``report.json``."""

from clipmill.core.manifests import Record
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.results import HistogramData, ThroughPart


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
