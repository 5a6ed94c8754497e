"""Small embeddings datasets with any captions, labels, ids and thumbnails, to be evaluated."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core import manifests, schemas
from clipmill.datasets.manifests import INPUTS_FILE, embedding_column, write_manifest
from clipmill.datasets.shards import describe_shard, write_shards
from clipmill.storage import resolve, sha256, write_table

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float16]:
    """Rows of unit length, as they are stored."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


def identity(dimension: int) -> manifests.ModelIdentity:
    return manifests.ModelIdentity(
        name="tiny",
        pretrained="tag",
        weights_sha256="a" * 64,
        preprocessing={"size": 8},
        tokenizer="words",
        tokenizer_sha256="b" * 64,
        dimension=dimension,
        logit_scale=100.0,
    )


def write_captioned(
    folder: Path,
    images: NDArray[np.float16],
    captions: NDArray[np.float16],
    caption_rows: Sequence[int],
    *,
    image_rows: Sequence[int] | None = None,
    texts: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    labels: Sequence[str | None] | None = None,
    thumbnails: Sequence[bytes | None] | None = None,
    model: manifests.ModelIdentity | None = None,
    rejected_images: int = 0,
    paths: Sequence[str] = (),
    clip_scores: bool = False,
) -> str:
    """A finished dataset in two files per part; image i is row ``image_rows[i]`` (default i). Returns its place.

    ``paths`` are those of its source files, by ordinal; with ``clip_scores`` each caption has the cosine with its own image.
    """
    location, dimension = resolve(folder), images.shape[1]
    rows = np.arange(len(images)) if image_rows is None else np.asarray(image_rows, np.int64)
    said = list(texts or [f"caption {number}" for number in range(len(captions))])
    owners = np.asarray(caption_rows, np.int64)
    kept = [] if labels is None else [pa.field("label", pa.string())]
    columns = {
        "row": pa.array(rows, pa.int64()),
        "id": pa.array(list(ids or [f"id-{row}" for row in rows]), pa.string()),
        "width": pa.array([8] * len(rows), pa.int32()),
        "height": pa.array([8] * len(rows), pa.int32()),
        "image_sha256": pa.array([hashlib.sha256(b"%d" % row).digest() for row in rows], pa.binary(32)),
        "embedding": embedding_column(images),
        "label": pa.array(labels if labels is not None else [None] * len(rows), pa.string()),
        "thumbnail": pa.array(thumbnails if thumbnails is not None else [None] * len(rows), pa.binary()),
    }
    spoken = {
        "row": pa.array(owners, pa.int64()),
        "id": pa.array([f"id-{row}" for row in owners], pa.string()),
        "caption_index": pa.array([int(np.sum(owners[:i] == row)) for i, row in enumerate(owners)], pa.int32()),
        "caption": pa.array(said, pa.string()),
        "embedding": embedding_column(captions),
        "clip_score": pa.nulls(len(owners), pa.float32()),
    }
    if clip_scores:
        own = images[np.searchsorted(rows, owners)].astype(np.float32)
        spoken["clip_score"] = pa.array(np.sum(own * captions.astype(np.float32), axis=1), pa.float32())
    hashes = model is not None
    parts = {
        "images": (
            schemas.images_schema(dimension, kept, thumbnails=thumbnails is not None, hashes=hashes),
            columns,
        ),
        "captions": (schemas.captions_schema(dimension), spoken),
    }
    shards = []
    for part, (schema, values) in parts.items():
        table = pa.table([values[name] for name in schema.names], schema=schema)
        half = (len(table) + 1) // 2
        for number, piece in enumerate((table.slice(0, half), table.slice(half))):
            path = f"{part}/part-{number:05d}.parquet"
            write_table(location / path, piece, row_group_size=7)
            ends = (
                (int(piece["row"].to_numpy().min()), int(piece["row"].to_numpy().max())) if len(piece) else (None, None)
            )
            shards.append(describe_shard(location, path, part, len(piece), *ends))
    sources = [
        {"ordinal": ordinal, "path": path, "size": 1, "etag": "", "rows": 1, "captions": 0, "dead": False}
        for ordinal, path in enumerate(paths)
    ]
    write_table(location / INPUTS_FILE, pa.Table.from_pylist(sources, schema=schemas.INPUTS))
    manifest = manifests.EmbeddingsManifest(
        model=model,
        dimension=dimension,
        counts=manifests.Counts(
            rows=len(rows) + rejected_images,
            images=len(rows),
            captions=len(owners),
            rejected_images=rejected_images,
            rejected_by_reason={"not_an_image": rejected_images} if rejected_images else {},
        ),
        configuration={},
        kept_columns=[field.name for field in kept],
        runs=[manifests.Run(started=NOW, finished=NOW, rows_encoded=len(rows), rows_reused=0, limited_by="test")],
        throughput=manifests.Throughput(
            wall_seconds=2, images_per_second=10, captions_per_second=50, images_per_cpu_second=5, stage_seconds={}
        ),
        software={},
        hardware={},
        inputs_sha256=sha256(location / INPUTS_FILE),
        shards_sha256=write_shards(location, shards),
    )
    write_manifest(location, manifest)
    return location.uri


def pairs(
    images: int, each: int, dimension: int = 16, noise: float = 0.5, seed: int = 0
) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.int64]]:
    """Image vectors, vectors of ``each`` captions of every image near its own, and the captions' rows."""
    random = np.random.default_rng(seed)
    pictures = unit(random.standard_normal((images, dimension)))
    rows = np.repeat(np.arange(images), each)
    spread = random.standard_normal((len(rows), dimension)) * noise / np.sqrt(dimension)
    return pictures, unit(pictures[rows].astype(np.float64) + spread), rows
