"""Bytes of an embeddings dataset: vectors counted exactly, the other columns as they were in an earlier run or assumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.schemas import ROWS_PER_SHARD, captions_schema, images_schema
from clipmill.datasets.manifests import Embeddings, embedding_column, part_writer
from clipmill.datasets.shards import Shard

LEVEL_BYTES = 5
"""Of Parquet's repetition levels, which say where the vector of a row begins (uncompressed, run-length encoded)."""
_HASH_BYTES = 32 + 1  # a definition level besides, which says that it is not null
ASSUMED_IMAGE_COLUMNS = (37.0, 53.0, 133.0)
ASSUMED_CAPTION_COLUMNS = (12.0, 35.0, 80.0)
"""Compressed bytes per row of all columns but the vector: least, likely, most."""


_USUAL_TEXT = "a dog and a cat in the grass"


@dataclass(frozen=True)
class ColumnBytes:
    """Bytes per row besides its vector and its share of the file's ends, as (least, likely, most)."""

    image: tuple[float, float, float]
    caption: tuple[float, float, float]
    images_a_row: float
    basis: str
    kept: tuple[str, ...] = ()
    """Columns kept from the source."""
    not_indexed: float = _HASH_BYTES
    """Of the bytes per image, those of its sha256 and its thumbnail, which an index does not hold."""


ASSUMED = ColumnBytes(
    ASSUMED_IMAGE_COLUMNS,
    ASSUMED_CAPTION_COLUMNS,
    1.0,
    f"no rejects, no thumbnails, {ASSUMED_IMAGE_COLUMNS[1]:g} bytes of other columns an image and "
    f"{ASSUMED_CAPTION_COLUMNS[1]:g} a caption",
)


def vector_bytes(dimension: int) -> int:
    """Bytes that the float16 vector of a row takes in a Parquet file."""
    return 2 * dimension + LEVEL_BYTES


@cache
def file_bytes(part: str, dimension: int, kept: tuple[str, ...] = ()) -> int:
    """Bytes of a file of this part besides its rows: its schema and the ends of its columns, with the least and greatest
    values in them, as a file of one usual row has them. Columns kept from the source count as texts."""
    texts = [pa.field(name, pa.string()) for name in kept]
    schema = images_schema(dimension, texts, hashes=True) if part == "images" else captions_schema(dimension)
    usual = {pa.int64(): 0, pa.int32(): 0, pa.float32(): 0.0, pa.string(): _USUAL_TEXT, pa.binary(32): bytes(32)}
    columns = [
        embedding_column(np.zeros((1, dimension), np.float16))
        if field.name == "embedding"
        else pa.array([usual[field.type]], field.type)
        for field in schema
    ]
    sink = pa.BufferOutputStream()
    with part_writer(sink, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))
    return int(sink.getvalue().size) - vector_bytes(dimension)


def thumbnail_bytes(embeddings: Embeddings) -> float:
    """Bytes of a thumbnail, on average over the first file of images; 0 where there are none."""
    shard = next((shard for shard in embeddings.shards_of("images") if shard.rows), None)
    if shard is None:
        return 0.0
    footer = embeddings.open_shard(shard).metadata
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    size = sum(column.total_compressed_size for column in columns if column.path_in_schema == "thumbnail")
    return float(size / shard.rows)


def measured_columns(manifest: EmbeddingsManifest, shards: Sequence[Shard], thumbnail: float = 0.0) -> ColumnBytes:
    """What the columns of a finished dataset take, its thumbnails (`thumbnail_bytes`) included."""

    kept_columns = tuple(manifest.kept_columns)

    def besides_vector(part: str, otherwise: float) -> tuple[float, float, float]:
        files = [shard for shard in shards if shard.part == part]
        rows = sum(file.rows for file in files)
        if not rows:
            return (otherwise,) * 3
        ends = file_bytes(part, manifest.dimension, kept_columns)
        size = sum(file.bytes for file in files) - len(files) * ends
        value = max(0.0, size / rows - vector_bytes(manifest.dimension))
        return (0.9 * value, value, 1.1 * value)

    image = besides_vector("images", ASSUMED_IMAGE_COLUMNS[1])
    caption = besides_vector("captions", ASSUMED_CAPTION_COLUMNS[1])
    kept = manifest.counts.images / manifest.counts.rows if manifest.counts.rows else 1.0
    basis = f"{image[1]:.1f} bytes of other columns an image and {caption[1]:.1f} a caption, as in the calibrating run"
    not_indexed = thumbnail + _HASH_BYTES * manifest.has_hashes
    return ColumnBytes(image, caption, kept, basis, kept_columns, not_indexed)


def embedding_bytes(images: float, captions: float, dimension: int, columns: ColumnBytes) -> tuple[float, float, float]:
    """Bytes of the files of so many images and captions: least, likely, most."""
    vectors = (images + captions) * vector_bytes(dimension)
    files = math.ceil(max(images, captions) / ROWS_PER_SHARD)
    ends = sum(
        files * file_bytes(part, dimension, columns.kept)
        for part, rows in (("images", images), ("captions", captions))
        if rows
    )
    least, likely, most = (
        vectors + ends + images * image + captions * caption
        for image, caption in zip(columns.image, columns.caption, strict=True)
    )
    return least, likely, most
