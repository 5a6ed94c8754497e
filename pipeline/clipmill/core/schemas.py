"""Every table and manifest that crosses a stage boundary.

Plain Arrow types only, so that other tools read the files with nothing of ours installed.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
ORDINAL_SHIFT = 32
MAX_FILES = 1 << 21
"""``row`` = file ordinal << 32 | row number in that file; ordinals below 2²¹ keep it below 2⁵³, exact in JSON."""


class Reason(str, Enum):
    """Why a row or a caption was rejected: a closed set."""

    MISSING_IMAGE = "missing_image"
    EMPTY_IMAGE = "empty_image"
    IMAGE_NOT_FOUND = "image_not_found"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED_IMAGE = "truncated_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNREADABLE_IMAGE = "unreadable_image"
    EMPTY_CAPTION = "empty_caption"
    NON_FINITE_EMBEDDING = "non_finite_embedding"
    REMOVED = "removed"


def embedding_type(dimension: int) -> pa.DataType:
    """One float16 vector of this many dimensions."""
    return pa.list_(pa.field("item", pa.float16(), nullable=False), dimension)


ROWS_PER_SHARD = 131_072
"""Source rows that one ``part-*.parquet`` of embeddings stands for, about."""


def images_schema(dimension: int, kept: Iterable[pa.Field] = (), *, thumbnails: bool = False) -> pa.Schema:
    """``images/part-*.parquet``: one row an embedded image, then the columns kept from the source."""
    fields = [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("embedding", embedding_type(dimension), nullable=False),
        *kept,
    ]
    if thumbnails:
        fields.append(pa.field("thumbnail", pa.binary()))
    return pa.schema(fields)


def captions_schema(dimension: int) -> pa.Schema:
    """``captions/part-*.parquet``: one row a caption; ``clip_score`` is null for a caption without its image."""
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("caption_index", pa.int32(), nullable=False),
            pa.field("caption", pa.string(), nullable=False),
            pa.field("embedding", embedding_type(dimension), nullable=False),
            pa.field("clip_score", pa.float32()),
        ]
    )


REJECTED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("caption_index", pa.int32()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

INPUTS = pa.schema(
    [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("captions", pa.int64(), nullable=False),
        pa.field("dead", pa.bool_(), nullable=False),
    ]
)
"""``inputs.parquet``: the source files. ``etag`` is the object's version, or its modification time on a local disk.
``captions`` counts the captions of the rows that were read."""

SHARDS = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("first_row", pa.int64()),
        pa.field("last_row", pa.int64()),
    ]
)
"""``shards.parquet``: the files of a dataset. ``part`` is what a file holds (images, captions, rejected; in an index:
index, vectors, rows, row_table); ``path`` is relative to the dataset."""

SEARCH_RESULTS = pa.schema(
    [
        pa.field("query", pa.int64(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)


def pairs_schema(*, captions: bool) -> pa.Schema:
    """``pairs.parquet``: two near-duplicates a row, sorted by position; caption indices where captions were compared."""
    of_captions = [pa.field(f"caption_index_{side}", pa.int32(), nullable=False) for side in "ab"] if captions else []
    return pa.schema(
        [
            pa.field("row_a", pa.int64(), nullable=False),
            pa.field("row_b", pa.int64(), nullable=False),
            pa.field("id_a", pa.string(), nullable=False),
            pa.field("id_b", pa.string(), nullable=False),
            *of_captions,
            pa.field("cosine", pa.float32(), nullable=False),
        ]
    )


def groups_schema(*, captions: bool) -> pa.Schema:
    """``groups.parquet``: one row a member of a group, sorted by group and position; one member of each is ``kept``."""
    of_captions = [pa.field("caption_index", pa.int32(), nullable=False)] if captions else []
    return pa.schema(
        [
            pa.field("group", pa.int64(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            *of_captions,
            pa.field("kept", pa.bool_(), nullable=False),
        ]
    )


def selection_schema(kept: Iterable[pa.Field], prompts: int) -> pa.Schema:
    """``kept/part-*.parquet``: one row an image, with the best ``clip_score`` of its captions and its cosine with each
    prompt; ``dropped/part-*.parquet`` has ``why: list<string>`` besides. A column kept from the source that is called
    like one of these gets the prefix ``source_``."""
    ours = [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
    added = [
        pa.field("captions", pa.list_(pa.string())),
        pa.field("clip_score", pa.float32()),
        *(pa.field(f"cosine_{number}", pa.float32()) for number in range(1, prompts + 1)),
    ]
    taken = {field.name for field in added} | {"why"}
    renamed = [field.with_name(f"source_{field.name}") if field.name in taken else field for field in kept]
    return pa.schema([*ours, *renamed, *added])


class Record(BaseModel):
    """Base of what is written to a manifest. Unknown keys of a newer version are refused by ``schema_version``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelIdentity(Record):
    """What makes two sets of embeddings comparable, and what was used to make them."""

    name: str
    pretrained: str
    weights_sha256: str
    preprocessing: dict[str, Any]
    tokenizer: str
    tokenizer_sha256: str
    dimension: int
    logit_scale: float

    def differences(self, other: "ModelIdentity") -> list[str]:
        """The parts of the identity that disagree, in words; empty when vectors of both may be compared."""
        must_agree = ("weights_sha256", "preprocessing", "tokenizer_sha256", "dimension")
        return [
            f"{key}: {getattr(self, key)} and {getattr(other, key)}"
            for key in must_agree
            if getattr(self, key) != getattr(other, key)
        ]


class Counts(Record):
    """What became of the input: ``rows`` = images + rejected images + rows of files without an image column."""

    rows: int = 0
    images: int = 0
    captions: int = 0
    rejected_images: int = 0
    rejected_captions: int = 0
    without_image_column: int = 0
    rejected_by_reason: dict[str, int] = {}


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
    rows by the device, precision and batch size that encoded them; ``parity`` has the cosines of a few images with what
    float32 makes of them, where another precision was used."""

    kind: Literal["embeddings"] = "embeddings"
    schema_version: int = SCHEMA_VERSION
    model: ModelIdentity | None
    dimension: int
    counts: Counts
    configuration: dict[str, Any]
    encoded_with: dict[str, int] = {}
    parity: dict[str, float] = {}
    kept_columns: list[str]
    runs: list[Run]
    throughput: Throughput
    software: dict[str, str]
    hardware: dict[str, Any]
    inputs_sha256: str
    shards_sha256: str


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


class IndexManifest(Record):
    """``manifest.json`` of an index.

    ``query_kind`` says what it was tuned on (captions, images, or gallery vectors where there is nothing else);
    ``target_met`` whether the operating point reached the target there and on queries that it was not tuned on;
    ``front`` holds the points measured that no other beat in both recall and time; ``memory`` the bytes that search
    keeps resident, by part and in total.
    """

    kind: Literal["index"] = "index"
    schema_version: int = SCHEMA_VERSION
    model: ModelIdentity | None
    dimension: int
    n: int
    gallery: Literal["images", "captions"]
    shards: int
    factory: str
    why: str
    metric: Literal["inner_product"] = "inner_product"
    exact: bool
    k: int
    target_recall: float
    target_met: bool
    operating_point: OperatingPoint
    front: list[OperatingPoint]
    query_kind: str
    memory: dict[str, int]
    configuration: dict[str, Any]
    kept_columns: list[str]
    embeddings: str
    embeddings_manifest_sha256: str
    trained_sha256: str
    shards_sha256: str
    runs: list[Run]
    stage_seconds: dict[str, float]
    software: dict[str, str]
    hardware: dict[str, Any]

    @property
    def bytes_per_vector(self) -> float:
        """Bytes that search keeps resident, a vector."""
        return self.memory["total"] / self.n


class DuplicatesManifest(Record):
    """``manifest.json`` of near-duplicates: ``n`` rows of a gallery were all compared with each other.

    ``rows_in_groups`` have a near-duplicate; ``rows_dropped`` of them are not the one that is kept of their group.
    """

    kind: Literal["duplicates"] = "duplicates"
    schema_version: int = SCHEMA_VERSION
    n: int
    gallery: Literal["images", "captions"]
    threshold: float
    pairs: int
    groups: int
    rows_in_groups: int
    rows_dropped: int
    largest_group: int
    configuration: dict[str, Any]
    embeddings: str
    embeddings_manifest_sha256: str
    shards_sha256: str
    runs: list[Run]
    software: dict[str, str]
    hardware: dict[str, Any]


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
    embeddings_manifest_sha256: str
    duplicates_manifest_sha256: str | None
    shards_sha256: str
    runs: list[Run]
    software: dict[str, str]
    hardware: dict[str, Any]


class Expected(Record):
    """A figure of the plan, between ``low`` and ``high``, and what it was; ``happened`` is null where that is not known."""

    name: str
    planned: float
    low: float
    high: float
    unit: str
    happened: float | None = None

    @property
    def difference(self) -> float | None:
        """Planned over happened, less 1."""
        return self.planned / self.happened - 1 if self.happened else None


class Foresight(Record):
    """The plan that was made before a run, and what its figures rest on."""

    basis: str
    figures: list[Expected]
