"""What an index promises: the recall measured for a kind of query and a number of results, and how it is searched for that; and
what it has beside its codes to keep it."""

import math
from typing import Literal

from clipmill.core.counts import Record, Sha256
from clipmill.core.schemas import RerankKind

_LISTS_BY_RESULTS = 0.3
"""The power by which lists grow with the number of results. Of 200,000 vectors pictures took 32 lists for 10 results and 56 for
100 at the same recall, captions no more for 100 than for 10."""


class Interval(Record):
    """A measured proportion with its two-sided 95% interval, over ``n`` queries."""

    value: float
    low: float
    high: float
    n: int


class OperatingPoint(Record):
    """Search parameters, and the recall and time measured with them on one thread. An exact index has zeros."""

    nprobe: int
    rerank: int
    recall: Interval
    confirmed_recall: Interval | None
    milliseconds_per_query: float


GALLERY_VECTORS = "gallery vectors"
"""Queries like what is in the gallery: vectors of it, each left out of its own results."""
SEARCHES = "searches"
"""Queries that people asked, kept in a file."""


def queries_in_words(kind: str, gallery: str) -> str:
    """The queries of this kind that an index over ``gallery`` is asked."""
    return f"its own {gallery}, each left out of its own results" if kind == GALLERY_VECTORS else kind


class Promise(Record):
    """What searches of one kind for up to ``k`` results find at an operating point of their own; ``target_met`` as in
    `IndexManifest`."""

    query_kind: str
    k: int
    target_met: bool | None
    operating_point: OperatingPoint

    @property
    def measured_recall(self) -> Interval:
        """The recall on queries that it was not tuned on where there were enough of them, else on those that it was."""
        return self.operating_point.confirmed_recall or self.operating_point.recall

    def at(self, k: int) -> tuple[int, int]:
        """nprobe and re-rank depth for ``k`` results: those of the promise, and more where ``k`` is beyond it: these find
        nearly as many of them as was promised."""
        point, beyond = self.operating_point, max(1.0, k / self.k)
        return math.ceil(point.nprobe * beyond**_LISTS_BY_RESULTS), math.ceil(point.rerank * beyond)


class QueryTransform(Record):
    """``query_transform.npy``, which queries are multiplied by where they are projected otherwise than vectors: to so many
    ``directions``, learned from so many ``queries``. ``version`` is that of its format."""

    version: Literal[1] = 1
    sha256: Sha256
    directions: int
    queries: int


class RerankVectors(Record):
    """How the vectors for re-ranking are stored: as they were embedded (float16), a byte a component (int8) in the ranges of
    ``vectors_range.npy``, or not at all. ``recall`` is the share of the exact results that int8 vectors alone would leave among
    as many; null where nothing is lost, or nothing stored."""

    kind: RerankKind = "float16"
    ranges_sha256: Sha256 | None = None
    recall: Interval | None = None


class Tried(Record):
    """A kind of index that was built and missed the target: the recall measured for it, and the bytes that search kept
    resident."""

    factory: str
    k: int
    query_kind: str
    recall: Interval
    bytes: int
