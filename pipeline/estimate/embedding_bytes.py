"""Bytes of an embeddings dataset: vectors counted exactly, the other columns as they were in an earlier run or assumed."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.datasets import Shard
from pipeline.schemas import EmbeddingsManifest

LEVEL_BYTES = 5
"""Of Parquet's repetition levels, which say where the vector of a row begins (uncompressed, run-length encoded)."""
ASSUMED_IMAGE_COLUMNS = (4.0, 20.0, 100.0)
ASSUMED_CAPTION_COLUMNS = (12.0, 35.0, 80.0)
"""Compressed bytes a row of all columns but the vector: least, likely, most."""


@dataclass(frozen=True)
class ColumnBytes:
    """Bytes a row besides its vector, as (least, likely, most)."""

    image: tuple[float, float, float]
    caption: tuple[float, float, float]
    images_a_row: float
    basis: str


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


def measured_columns(manifest: EmbeddingsManifest, shards: Sequence[Shard]) -> ColumnBytes:
    """What the columns of a finished dataset take, thumbnails included."""

    def besides_vector(part: str, otherwise: float) -> tuple[float, float, float]:
        rows = sum(shard.rows for shard in shards if shard.part == part)
        if not rows:
            return (otherwise,) * 3
        size = sum(shard.bytes for shard in shards if shard.part == part)
        value = max(0.0, size / rows - vector_bytes(manifest.dimension))
        return (0.9 * value, value, 1.1 * value)

    image = besides_vector("images", ASSUMED_IMAGE_COLUMNS[1])
    caption = besides_vector("captions", ASSUMED_CAPTION_COLUMNS[1])
    kept = manifest.counts.images / manifest.counts.rows if manifest.counts.rows else 1.0
    basis = f"{image[1]:.1f} bytes of other columns an image and {caption[1]:.1f} a caption, as in the calibrating run"
    return ColumnBytes(image, caption, kept, basis)


def embedding_bytes(images: float, captions: float, dimension: int, columns: ColumnBytes) -> tuple[float, float, float]:
    """Bytes of the files of so many images and captions: least, likely, most."""
    vectors = (images + captions) * vector_bytes(dimension)
    least, likely, most = (
        vectors + images * image + captions * caption
        for image, caption in zip(columns.image, columns.caption, strict=True)
    )
    return least, likely, most
