"""Pictures of rows come from thumbnails, else from the source, and are left out where neither can be read."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clipmill.datasets.manifests import Embeddings
from clipmill.report.results.pictures import SIDE, pictures_of
from clustered import write_embeddings

VECTORS = np.eye(6, 8, dtype=np.float16)


def jpeg(shade: int, size: tuple[int, int] = (300, 200)) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, shade).save(stream, "JPEG")
    return stream.getvalue()


def shade_of(picture: bytes) -> int:
    return int(np.median(np.asarray(Image.open(io.BytesIO(picture)).convert("L"))))


def test_thumbnails_are_found_by_row_across_files(tmp_path: Path) -> None:
    thumbnails = [jpeg(40 * row, (20, 20)) for row in range(6)]
    dataset = write_embeddings(tmp_path, VECTORS, VECTORS, files=3, row_group_size=1, thumbnails=thumbnails)
    pictures = pictures_of(Embeddings.open(str(dataset)), {5, 0, 3})
    assert pictures == {row: thumbnails[row] for row in (0, 3, 5)}


def test_without_thumbnails_the_source_is_read_and_made_small(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg(200))
    images = [{"bytes": jpeg(40 * row), "path": None} for row in range(4)]
    images += [{"bytes": None, "path": "photo.jpg"}, {"bytes": b"not an image", "path": None}]
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image": images}), source, row_group_size=2)
    dataset = write_embeddings(tmp_path / "embeddings", VECTORS, VECTORS, source=source)
    pictures = pictures_of(Embeddings.open(str(dataset)), {1, 3, 4, 5})
    assert sorted(pictures) == [1, 3, 4]
    assert [shade_of(pictures[row]) for row in (1, 3, 4)] == [40, 120, 200]
    assert max(Image.open(io.BytesIO(pictures[1])).size) == SIDE


def test_a_source_that_has_gone_leaves_the_pictures_out(tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image": [jpeg(0)] * 6}), source)
    dataset = write_embeddings(tmp_path / "embeddings", VECTORS, VECTORS, source=source)
    source.unlink()
    assert pictures_of(Embeddings.open(str(dataset)), {0, 5}) == {}
