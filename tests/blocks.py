"""Pictures of coloured blocks, to write about."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(seed: int, size: tuple[int, int] = (48, 36)) -> bytes:
    """A PNG of coloured blocks."""
    random = np.random.default_rng(seed)
    blocks = Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    stream = io.BytesIO()
    blocks.resize(size, Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def write_pictures(folder: Path, rows: int, **columns: list[object]) -> str:
    """Source Parquet of so many pictures, in row groups of 16."""
    folder.mkdir(parents=True)
    table = pa.table(
        {"id": [f"p{row}" for row in range(rows)], "image": [encoded(row) for row in range(rows)], **columns}
    )
    pq.write_table(table, folder / "part-00000.parquet", row_group_size=16)
    return str(folder)
