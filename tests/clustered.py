"""Embeddings datasets to index: clustered image vectors, and captions that lie where no image does."""

import hashlib
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill.core import manifests, schemas
from clipmill.datasets.manifests import INPUTS_FILE, embedding_column, write_manifest
from clipmill.datasets.shards import describe_shard, write_shards
from clipmill.storage import resolve, sha256, write_table

IMAGE_MEAN, CAPTION_MEAN, MEANS_COSINE, MATCHED_COSINE = 0.74, 0.61, 0.18, 0.52
"""Norms of the two means, the cosine between them, and that of matched pairs once means are taken away: those of
CLIP vectors of real photographs and captions."""


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def image_and_caption_vectors(
    images: int, captions: int, dimension: int, seed: int, clusters: int = 200
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Image vectors in skewed clusters, and the caption vectors of the first images."""
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(dimension) * 8 / dimension)
    weights = 1 / np.arange(1, clusters + 1)
    centres = rng.standard_normal((clusters, dimension)) * spectrum
    chosen = rng.choice(clusters, images, p=weights / weights.sum())
    contents = unit(centres[chosen] + 0.9 * rng.standard_normal((images, dimension)) * spectrum)
    image_mean = unit(rng.standard_normal(dimension))
    aside = rng.standard_normal(dimension)
    aside = unit(aside - aside @ image_mean * image_mean)
    caption_mean = MEANS_COSINE * image_mean + np.sqrt(1 - MEANS_COSINE**2) * aside
    said = MATCHED_COSINE * contents[:captions] + np.sqrt(1 - MATCHED_COSINE**2) * unit(
        rng.standard_normal((captions, dimension)) * spectrum
    )
    image_vectors = unit(IMAGE_MEAN * image_mean + np.sqrt(1 - IMAGE_MEAN**2) * contents)
    caption_vectors = unit(CAPTION_MEAN * caption_mean + np.sqrt(1 - CAPTION_MEAN**2) * unit(said))
    return image_vectors.astype(np.float16), caption_vectors.astype(np.float16)


def write_embeddings(
    folder: Path,
    images: NDArray[np.float16],
    captions: NDArray[np.float16],
    *,
    files: int = 3,
    row_group_size: int = 1000,
    labels: list[str] | None = None,
    thumbnails: list[bytes | None] | None = None,
    identity: manifests.ModelIdentity | None = None,
    source: Path | None = None,
    plain: bool = False,
    kept: dict[str, pa.Array] | None = None,
) -> Path:
    """A finished embeddings dataset of these vectors, by the schemas of the project; image i has the id ``image-i``. ``plain``
    columns are neither compressed nor in a dictionary, as those that `clipmill embed` writes: where time is measured."""
    dimension = images.shape[1]
    location = resolve(folder)
    shards = []
    columns = {**({"label": pa.array(labels, pa.string())} if labels else {}), **(kept or {})}
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    image_schema = schemas.images_schema(
        dimension, fields, thumbnails=thumbnails is not None, hashes=identity is not None
    )
    for part, vectors in (("images", images), ("captions", captions)):
        bounds = np.linspace(0, len(vectors), files + 1).astype(int)
        for number, (start, stop) in enumerate(pairwise(bounds)):
            rows = np.arange(start, stop)
            values = {
                "row": pa.array(rows),
                "id": pa.array([f"image-{row}" for row in rows], pa.string()),
                "embedding": embedding_column(vectors[start:stop]),
            }
            if part == "images":
                sizes = pa.array(np.full(len(rows), 8, np.int32))
                hashes = [hashlib.sha256(f"image-{row}".encode()).digest() for row in rows]
                values |= {"width": sizes, "height": sizes, "image_sha256": pa.array(hashes, pa.binary(32))}
                values |= {name: column[start:stop] for name, column in columns.items()}
                if thumbnails is not None:
                    values["thumbnail"] = pa.array(thumbnails[start:stop], pa.binary())
                schema = image_schema
            else:
                schema = schemas.captions_schema(dimension)
                values["caption_index"] = pa.array(np.zeros(len(rows), np.int32))
                values["caption"] = pa.array([f"caption of {row}" for row in rows], pa.string())
                values["clip_score"] = pa.nulls(len(rows), pa.float32())
            table = pa.table([values[name] for name in schema.names], schema=schema)
            path = f"{part}/part-{number:05d}.parquet"
            (folder / part).mkdir(parents=True, exist_ok=True)
            options = {"compression": "none", "use_dictionary": False} if plain else {}
            pq.write_table(table, folder / path, row_group_size=row_group_size, **options)
            ends = (int(rows[0]), int(rows[-1])) if len(rows) else (None, None)
            shards.append(describe_shard(location, path, part, len(rows), *ends))
    inputs = schemas.INPUTS.empty_table()
    if source is not None:
        values = [
            [0],
            [str(source)],
            [source.stat().st_size],
            [str(source.stat().st_mtime_ns)],
            [len(images)],
            [len(captions)],
            [False],
        ]
        inputs = pa.table(values, schema=schemas.INPUTS)
    write_table(location / INPUTS_FILE, inputs)
    now = datetime.now(timezone.utc)
    write_manifest(
        location,
        manifests.EmbeddingsManifest(
            model=identity,
            dimension=dimension,
            counts=manifests.Counts(rows=len(images), images=len(images), captions=len(captions)),
            configuration={},
            kept_columns=list(columns),
            runs=[manifests.Run(started=now, finished=now, rows_encoded=0, rows_reused=0, limited_by="test")],
            throughput=manifests.Throughput(
                wall_seconds=1, images_per_second=1, captions_per_second=1, images_per_cpu_second=1, stage_seconds={}
            ),
            software={},
            hardware={},
            inputs_sha256=sha256(location / INPUTS_FILE),
            shards_sha256=write_shards(location, shards),
        ),
    )
    return folder
