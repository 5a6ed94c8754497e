"""Every manifest that crosses a stage boundary: what it says of a dataset, beside the lists of its files."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    StringConstraints,
    model_validator,
)

from clipmill.core.counts import ClipCounts as ClipCounts
from clipmill.core.counts import Counts as Counts
from clipmill.core.counts import Record as Record
from clipmill.core.counts import Sha256 as Sha256
from clipmill.core.near_pairs import BandRecall as BandRecall
from clipmill.core.near_pairs import Clusters as Clusters
from clipmill.core.near_pairs import DedupMethod as DedupMethod
from clipmill.core.near_pairs import Linkage as Linkage
from clipmill.core.near_pairs import PairsRecall as PairsRecall
from clipmill.core.promises import GALLERY_VECTORS as GALLERY_VECTORS
from clipmill.core.promises import SEARCHES as SEARCHES
from clipmill.core.promises import Interval as Interval
from clipmill.core.promises import OperatingPoint as OperatingPoint
from clipmill.core.promises import Promise as Promise
from clipmill.core.promises import QueryTransform as QueryTransform
from clipmill.core.promises import RerankVectors as RerankVectors
from clipmill.core.promises import Tried as Tried
from clipmill.core.promises import queries_in_words as queries_in_words
from clipmill.core.schemas import GalleryName

SCHEMA_VERSION = 1
EMBEDDINGS_VERSION = 2
"""Since 2, images have the column ``image_sha256``."""
CLIPS_VERSION = 3
"""Of embeddings with sounds or videos."""
FRAMES_VERSION = 4
"""Of embeddings in which each picture of a video has a vector."""
REFERENCES_VERSION = 5
"""Of embeddings that name files of older versions beside them."""
INDEX_VERSION = 3
"""Of indices whose vectors for re-ranking are not float16, or not there."""
INDEX_WITH_REFERENCES = 4
"""Of indices that name files of older versions beside them."""
INDEX_WITH_TRANSFORM = 2
"""Of indices with a query transform, whose shards hold none."""
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"

"""A digest in hex, as we write it: it becomes the name of a file in the cache."""

Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
"""The name of a file or folder of ours, in the folder that names it."""

RelativePath = Annotated[str, StringConstraints(pattern=rf"^{_NAME}(/{_NAME})*$")]
"""A file of ours, relative to the folder that names it and below it: no part of it is ``..`` or begins with a point."""


class ModelIdentity(Record):
    """What makes two sets of embeddings comparable, and what was used to make them. ``dimension`` is less than the model's own
    where vectors were cut. ``logit_scale`` is null for a model that was trained without one. ``logit_bias`` is that of a model
    which was trained with a sigmoid for each pair, as SigLIP is; null for one with a softmax."""

    name: str
    pretrained: str
    weights_sha256: Sha256
    preprocessing: dict[str, Any]
    tokenizer: str
    tokenizer_sha256: Sha256
    dimension: int
    logit_scale: float | None
    logit_bias: float | None = None

    def differences(self, other: "ModelIdentity") -> list[str]:
        """The parts of the identity that disagree, in words; empty when vectors of both may be compared."""
        must_agree = ("weights_sha256", "preprocessing", "tokenizer_sha256", "dimension")
        return [
            f"{key}: {getattr(self, key)} and {getattr(other, key)}"
            for key in must_agree
            if getattr(self, key) != getattr(other, key)
        ]


class Run(Record):
    """One start of a job towards this dataset, times in UTC. ``finished`` is null where it was stopped before the end.

    ``limited_by`` is the stage that decided how long it took, ``encoder_busy`` the share of the time from the first
    picture to the last that the encoders computed, ``advice`` what would make the next run faster."""

    started: datetime
    finished: datetime | None
    rows_encoded: int
    rows_reused: int
    limited_by: str = ""
    encoder_busy: float | None = None
    advice: str = ""


class Throughput(Record):
    """Work a second, over the last run. Seconds by stage are sums over all workers."""

    wall_seconds: float
    images_per_second: float
    captions_per_second: float
    images_per_cpu_second: float
    images_per_second_per_core: float | None = None
    images_per_second_per_gpu: float | None = None
    stage_seconds: dict[str, float]


class EmbeddingsManifest(Record):
    """``manifest.json`` of an embeddings dataset. ``model`` is null for vectors made elsewhere; ``encoded_with`` counts
    rows by the device, precision, batch size and kind of GPU that encoded them; ``parity`` has the cosines of a few images
    with what float32 makes of them, where another precision was used; ``listing_sha256`` is null where no folder was
    listed; ``truncated_captions`` are those that are longer than the model reads, null where there are none or it was not
    counted."""

    NEWEST: ClassVar[int] = REFERENCES_VERSION
    LATER: ClassVar[tuple[str, ...]] = ("truncated_captions",)
    kind: Literal["embeddings"] = "embeddings"
    schema_version: int = EMBEDDINGS_VERSION
    model: ModelIdentity | None
    dimension: int
    counts: Counts
    configuration: dict[str, Any]
    encoded_with: dict[str, int] = Field(default_factory=dict)
    truncated_captions: int | None = None
    parity: dict[str, float] = Field(default_factory=dict)
    kept_columns: list[str]
    runs: list[Run]
    throughput: Throughput
    software: dict[str, str]
    hardware: dict[str, Any]
    inputs_sha256: Sha256
    shards_sha256: Sha256
    listing_sha256: Sha256 | None = None

    @property
    def imported(self) -> bool:
        """Whether the vectors were made elsewhere; the model may be known all the same."""
        return self.model is None or "images" in self.configuration

    @property
    def keeps_frames(self) -> bool:
        """Whether each picture of a video has a vector of its own."""
        return any(one.kept_frames is not None for one in self.counts.clips.values())

    @property
    def has_hashes(self) -> bool:
        """Whether images have the column ``image_sha256``."""
        return self.model is not None and self.schema_version >= EMBEDDINGS_VERSION


class IndexManifest(Record):
    """``manifest.json`` of an index.

    ``query_kind`` says what it was tuned on (captions, images, searches that people made, or gallery vectors, each left out of
    its own results, where there is nothing else); ``target_met`` whether the operating point reached the target there and on
    queries that it was not tuned on, null where only gallery vectors reached it, which are not what it will be asked;
    ``promises`` are those for other kinds of queries and other numbers of results;
    ``front`` holds the points measured that no other beat in both recall and time; ``memory`` the bytes that search
    keeps resident, by part and in total; ``query_transform`` is null where queries and vectors pass the same transforms, which
    then lie in the FAISS files; ``rerank_vectors`` says what results are scored with at last;
    ``tried`` are kinds of index that were built before this one and missed the target.
    """

    NEWEST: ClassVar[int] = INDEX_WITH_REFERENCES
    LATER: ClassVar[tuple[str, ...]] = ("rerank_vectors", "tried")
    kind: Literal["index"] = "index"
    schema_version: int = SCHEMA_VERSION
    model: ModelIdentity | None
    dimension: int
    n: int
    gallery: GalleryName
    shards: int
    factory: str
    why: str
    tried: list[Tried] = Field(default_factory=list)
    metric: Literal["inner_product"] = "inner_product"
    exact: bool
    k: int
    target_recall: float
    target_met: bool | None
    operating_point: OperatingPoint
    front: list[OperatingPoint]
    promises: list[Promise] = Field(default_factory=list)
    query_kind: str
    memory: dict[str, int]
    configuration: dict[str, Any]
    kept_columns: list[str]
    embeddings: str
    embeddings_manifest_sha256: Sha256
    trained_sha256: Sha256
    query_transform: QueryTransform | None = None
    rerank_vectors: RerankVectors = RerankVectors()
    shards_sha256: Sha256
    runs: list[Run]
    stage_seconds: dict[str, float]
    software: dict[str, str]
    hardware: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _not_promised(cls, document: Any) -> Any:
        """Version 0.1.0 promised what gallery vectors found, themselves included."""
        if isinstance(document, dict) and document.get("query_kind") == GALLERY_VECTORS and document.get("target_met"):
            return {**document, "target_met": None}
        return document

    @property
    def bytes_of_stored(self) -> int:
        """Bytes of the vectors for re-ranking, which lie on disk unless they are kept in memory."""
        return {"float16": 2, "int8": 1, "none": 0}[self.rerank_vectors.kind] * self.n * self.dimension

    @property
    def dimension_of_shards(self) -> int:
        """Components of what the FAISS files of the shards hold."""
        return self.dimension if self.query_transform is None else self.query_transform.directions

    @property
    def promise(self) -> Promise:
        """The one that the index was planned for: queries of ``query_kind``, and ``k`` results."""
        return Promise(
            query_kind=self.query_kind, k=self.k, target_met=self.target_met, operating_point=self.operating_point
        )

    def promise_for(self, query: str | None, k: int) -> Promise:
        """The one that holds for ``k`` results of a query: ``query`` is the part of a dataset that is like it (captions for
        a text, images for a picture; None where that is not known). Where none goes so far, the one that goes furthest."""
        return self.promise_of(GALLERY_VECTORS if query == self.gallery else self.query_kind, k)

    def promise_of(self, kind: str, k: int) -> Promise:
        """As `promise_for`, for a kind of queries as manifests name it."""
        there = [self.promise, *self.promises]
        alike = [one for one in there if one.query_kind == kind] or [self.promise]
        enough = [one for one in alike if one.k >= k]
        return min(enough, key=lambda one: one.k) if enough else max(alike, key=lambda one: one.k)

    @property
    def measured_recall(self) -> Interval:
        """As that of ``promise``."""
        return self.promise.measured_recall

    @property
    def asked_with(self) -> str:
        """The queries that the recall was measured with, in words."""
        return queries_in_words(self.query_kind, self.gallery)

    @property
    def bytes_per_vector(self) -> float:
        """Bytes that search keeps resident, a vector."""
        return self.memory["total"] / self.n


class DuplicatesManifest(Record):
    """``manifest.json`` of near-duplicates: ``n`` rows of a gallery were compared with each other.

    ``method`` says whether with all others or within ``clusters``, ``why`` what it was chosen for; ``recall`` is the share of
    pairs that clusters found, null where all were compared. ``rows_in_groups`` are in a group, ``rows_dropped`` of them are not
    the one that is kept of it. ``linkage`` is how groups follow from pairs: by chains of them, or so that every two rows of a
    group are a pair (complete). ``least_cosine`` is the least of two rows of any group (null where there is no group, or it
    was not measured); of ``bounded_groups``, which are very large, a lower bound stands in its place.
    """

    kind: Literal["duplicates"] = "duplicates"
    schema_version: int = SCHEMA_VERSION
    n: int
    gallery: GalleryName
    threshold: float
    pairs: int
    groups: int
    rows_in_groups: int
    rows_dropped: int
    largest_group: int
    method: DedupMethod = "exact"
    why: str = ""
    recall: PairsRecall | None = None
    clusters: Clusters | None = None
    linkage: Linkage = "chain"
    least_cosine: float | None = None
    bounded_groups: int = 0
    configuration: dict[str, Any]
    embeddings: str
    embeddings_manifest_sha256: Sha256
    shards_sha256: Sha256
    runs: list[Run]
    software: dict[str, str]
    hardware: dict[str, Any]

    @property
    def recall_in_words(self) -> str:
        """The share of pairs that was found, as one sentence without its full stop."""
        return "finds all pairs" if self.recall is None else self.recall.in_words(self.threshold)


class SelectionManifest(Record):
    """``manifest.json`` of rows kept and dropped. ``dropped_by_reason`` counts a row under each reason it has; ``prompts``
    are the texts of the columns ``cosine_1``, ``cosine_2``, …"""

    kind: Literal["selection"] = "selection"
    schema_version: int = SCHEMA_VERSION
    rows: int
    kept: int
    dropped: int
    dropped_by_reason: dict[str, int]
    prompts: list[str]
    configuration: dict[str, Any]
    embeddings: str
    embeddings_manifest_sha256: Sha256
    duplicates_manifest_sha256: Sha256 | None
    shards_sha256: Sha256
    runs: list[Run]
    software: dict[str, str]
    hardware: dict[str, Any]


class SourceFile(Record):
    """One Parquet file of a source dataset; ``path`` is relative to it."""

    path: RelativePath
    rows: int
    bytes: int
    sha256: Sha256


class SourceManifest(Record):
    """``manifest.json`` of source Parquet that `clipmill import` or `clipmill sample` wrote (``made_by``).

    The files are listed here and not in a table of their own, so that every Parquet file in the folder holds rows, for
    whoever reads it without clipmill.
    """

    kind: Literal["source"] = "source"
    schema_version: int = SCHEMA_VERSION
    made_by: str
    rows: int
    captions: int
    missing_images: int = 0
    configuration: dict[str, Any]
    files: list[SourceFile]
    runs: list[Run]
    software: dict[str, str]
    hardware: dict[str, Any]
