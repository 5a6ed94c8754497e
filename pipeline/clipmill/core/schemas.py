"""Every table that crosses a stage boundary.

Plain Arrow types only, so that other tools read the files with nothing of ours installed.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Literal

import pyarrow as pa

ORDINAL_SHIFT = 32
MAX_FILES = 1 << 21
"""``row`` = file ordinal << 32 | row number in that file; ordinals below 2²¹ keep it below 2⁵³, exact in JSON."""


GalleryName = Literal["images", "audio", "videos", "captions"]
"""The parts of embeddings whose vectors can be searched and compared."""
RerankKind = Literal["float16", "int8", "none"]
"""How an index stores the vectors that it scores results with."""


class Reason(str, Enum):
    """Why a row or a caption was rejected: a closed set."""

    MISSING_IMAGE = "missing_image"
    EMPTY_IMAGE = "empty_image"
    IMAGE_NOT_FOUND = "image_not_found"
    OUTSIDE_OF_INPUT = "outside_of_input"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED_IMAGE = "truncated_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNREADABLE_IMAGE = "unreadable_image"
    MISSING_AUDIO = "missing_audio"
    EMPTY_AUDIO = "empty_audio"
    AUDIO_NOT_FOUND = "audio_not_found"
    NOT_AUDIO = "not_audio"
    TRUNCATED_AUDIO = "truncated_audio"
    SILENT_AUDIO = "silent_audio"
    UNREADABLE_AUDIO = "unreadable_audio"
    MISSING_VIDEO = "missing_video"
    EMPTY_VIDEO = "empty_video"
    VIDEO_NOT_FOUND = "video_not_found"
    NOT_A_VIDEO = "not_a_video"
    TRUNCATED_VIDEO = "truncated_video"
    UNREADABLE_VIDEO = "unreadable_video"
    EMPTY_CAPTION = "empty_caption"
    NON_FINITE_EMBEDDING = "non_finite_embedding"
    MISSING_QUESTION = "missing_question"
    NOT_ANSWERABLE = "not_answerable"
    ENGINE_FAILED = "engine_failed"
    EMPTY_TEXT = "empty_text"
    REMOVED = "removed"


def embedding_type(dimension: int) -> pa.DataType:
    """One float16 vector of this many dimensions."""
    return pa.list_(pa.field("item", pa.float16(), nullable=False), dimension)


ROWS_PER_SHARD = 131_072
"""Source rows that one ``part-*.parquet`` of embeddings stands for, about."""


IMAGE_SHA256 = "image_sha256"
"""sha256 of an image's encoded bytes, by which a picture is known wherever it turns up again. Embeddings of schema version 1
have no such column; it is null in rows that a version without it encoded."""


def images_schema(
    dimension: int, kept: Iterable[pa.Field] = (), *, thumbnails: bool = False, hashes: bool = False
) -> pa.Schema:
    """``images/part-*.parquet``: one row an embedded image, then the columns kept from the source. With ``hashes`` there is
    `IMAGE_SHA256`: of images that were embedded, not of vectors made elsewhere."""
    fields = [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        *((pa.field(IMAGE_SHA256, pa.binary(32)),) if hashes else ()),
        pa.field("embedding", embedding_type(dimension), nullable=False),
        *kept,
    ]
    if thumbnails:
        fields.append(pa.field("thumbnail", pa.binary()))
    return pa.schema(fields)


AUDIO_SHA256, VIDEO_SHA256 = "audio_sha256", "video_sha256"
"""As `IMAGE_SHA256`, of sounds and videos."""


HASHES = {"images": IMAGE_SHA256, "audio": AUDIO_SHA256, "videos": VIDEO_SHA256}
"""By part, the column that has the sha256 of what was encoded."""


def audio_schema(dimension: int, kept: Iterable[pa.Field] = ()) -> pa.Schema:
    """``audio/part-*.parquet``: one row an embedded sound, then the columns kept from the source. ``duration`` is in seconds,
    ``sample_rate`` that of the file."""
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("duration", pa.float64()),
            pa.field("sample_rate", pa.int32()),
            pa.field(AUDIO_SHA256, pa.binary(32)),
            pa.field("embedding", embedding_type(dimension), nullable=False),
            *kept,
        ]
    )


FRAME, TIMESTAMP = "frame", "timestamp"
"""Of videos whose pictures were kept: the number of the picture in the video, and the second at which it is shown."""


def videos_schema(dimension: int, kept: Iterable[pa.Field] = (), *, frames: bool = False) -> pa.Schema:
    """``videos/part-*.parquet``: one row an embedded video, then the columns kept from the source. ``duration`` is in seconds,
    ``fps`` the pictures a second on average, ``frames`` how many there are. Where ``frames`` were kept there is one row a
    picture of it, which ``row`` and ``frame`` name."""
    of_frame = [pa.field(FRAME, pa.int32(), nullable=False), pa.field(TIMESTAMP, pa.float32(), nullable=False)]
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            *(of_frame if frames else []),
            pa.field("duration", pa.float64()),
            pa.field("fps", pa.float32()),
            pa.field("frames", pa.int32()),
            pa.field(VIDEO_SHA256, pa.binary(32)),
            pa.field("embedding", embedding_type(dimension), nullable=False),
            *kept,
        ]
    )


def captions_schema(dimension: int, *, unknown: bool = False) -> pa.Schema:
    """``captions/part-*.parquet``: one row per caption; ``clip_score`` is null for a caption without its image. Where texts
    may be ``unknown``, as of vectors made elsewhere, ``caption`` may be null."""
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("caption_index", pa.int32(), nullable=False),
            pa.field("caption", pa.string(), nullable=unknown),
            pa.field("embedding", embedding_type(dimension), nullable=False),
            pa.field("clip_score", pa.float32()),
        ]
    )


TEXTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("candidate", pa.int32(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("logprob", pa.float32()),
        pa.field("finish", pa.string(), nullable=False),
    ]
)
"""``texts/part-*.parquet``: one row a text that was written about a picture. ``candidate`` counts those of one picture from 0;
``tokens`` were generated, the end of the text included; ``logprob`` is the mean of their log probabilities, null where the
engine does not tell it; ``finish`` is stop, length (cut at the most tokens) or choice."""


def captioned_schema(image: str, kept: Iterable[pa.Field] = (), *, recap: bool = False) -> pa.Schema:
    """``captioned/part-*.parquet``: source rows again, with the texts that are true of their picture. ``row`` and ``id`` are
    those of the source, ``image`` is what its column of pictures is called, ``kept`` are its other columns, which are null in
    rows that were taken down. ``caption``,
    ``caption_source`` (original or generated) and ``score`` are of one length. With ``recap`` the best text of either kind
    and its score stand beside them, kept or not."""
    fields = [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field(image, pa.large_binary()),
        pa.field(IMAGE_SHA256, pa.binary(32)),
        pa.field("caption", pa.list_(pa.string()), nullable=False),
        pa.field("caption_source", pa.list_(pa.string()), nullable=False),
        pa.field("score", pa.list_(pa.float32()), nullable=False),
    ]
    return pa.schema([*fields, *(RECAP if recap else ()), *kept])


RECAP = (
    pa.field("re_caption", pa.string()),
    pa.field("org_caption", pa.string()),
    pa.field("re_clip_score", pa.float32()),
    pa.field("org_clip_score", pa.float32()),
)
"""Columns as Recap-DataComp-1B (Li et al. 2024) has them."""

DROPPED_TEXTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_source", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("why", pa.string(), nullable=False),
    ]
)
"""``dropped/part-*.parquet``: one row a text that was not kept. ``number`` is its place among the captions of its row, or the
candidate; ``score`` is null where it could not be had; ``why`` is ``below_threshold`` or a `Reason`."""

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

LISTING = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
    ]
)
"""``listing.parquet``: the pictures of listed folders, in order of rows. ``path`` is relative to the folder; ``etag`` is the
version of the picture, and of the text file beside it."""

SHARDS = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("first_row", pa.int64()),
        pa.field("last_row", pa.int64()),
        pa.field("version", pa.string()),
    ]
)
"""``shards.parquet``: the files of a dataset. ``part`` is what a file holds (images, captions, rejected; in an index:
index, vectors, rows, row_table); ``path`` is relative to the dataset. ``version`` is there where some files are those of an
older version at the same place, whose name it is; null: of this one."""

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
    """``groups.parquet``: one row per member of a group, sorted by group and position; one member of each is ``kept``.
    ``least_cosine`` is that of the two members of the group which are least alike, or a lower bound of it where a group is very
    large. Files of earlier versions have no such column."""
    of_captions = [pa.field("caption_index", pa.int32(), nullable=False)] if captions else []
    return pa.schema(
        [
            pa.field("group", pa.int64(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            *of_captions,
            pa.field("kept", pa.bool_(), nullable=False),
            pa.field("least_cosine", pa.float32(), nullable=False),
        ]
    )


def selection_schema(kept: Iterable[pa.Field], prompts: int) -> pa.Schema:
    """``kept/part-*.parquet``: one row per image, with the best ``clip_score`` of its captions and its cosine with each
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
