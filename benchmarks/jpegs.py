"""Rendered JPEGs for benchmarks: as large as photographs on the web, and as slow to decode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

_DIFFERENT = 64
_ROW_GROUP = 512


def jpeg(seed: int, width: int = 500, height: int = 375) -> bytes:
    """Soft shapes with grain: about 55 KB, like a photograph of its size at quality 85."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = random.normal(0, 9, (height, width, 3))
    picture = np.clip(np.asarray(coarse, np.float32) + grain, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def write_jpegs(path: Path, rows: int, captions: int = 1) -> None:
    """Parquet with pictures (a few, again and again) and captions of their own."""
    pictures = [jpeg(seed) for seed in range(min(rows, _DIFFERENT))]
    schema = pa.schema([("id", pa.string()), ("image", pa.binary()), ("caption", pa.list_(pa.string()))])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, _ROW_GROUP):
            numbers = range(start, min(start + _ROW_GROUP, rows))
            texts = [[f"picture {number} seen for the {at}th time" for at in range(captions)] for number in numbers]
            images = [pictures[number % len(pictures)] for number in numbers]
            writer.write_table(pa.table([[str(number) for number in numbers], images, texts], schema=schema))
