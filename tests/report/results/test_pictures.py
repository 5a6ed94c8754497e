"""Pictures of rows come from thumbnails, else from the source, and are left out where neither can be read."""

import io
import os
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import make_build
from clipmill.report.results.page import Asked, render_page
from clipmill.report.results.pictures import SIDE, pictures_of, pictures_of_results
from clipmill.source import decoded_size
from clipmill_jobs.__main__ import main
from clustered import write_embeddings
from indexing import build_here

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
    assert pictures.found == {row: thumbnails[row] for row in (0, 3, 5)}


def test_without_thumbnails_the_source_is_read_and_made_small(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg(200))
    images = [{"bytes": jpeg(40 * row), "path": None} for row in range(4)]
    images += [{"bytes": None, "path": "photo.jpg"}, {"bytes": b"not an image", "path": None}]
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image": images}), source, row_group_size=2)
    dataset = write_embeddings(tmp_path / "embeddings", VECTORS, VECTORS, source=source)
    pictures = pictures_of(Embeddings.open(str(dataset)), {1, 3, 4, 5})
    assert sorted(pictures.found) == [1, 3, 4]
    assert [shade_of(pictures.found[row]) for row in (1, 3, 4)] == [40, 120, 200]
    assert max(Image.open(io.BytesIO(pictures.found[1])).size) == SIDE


def test_a_source_that_has_gone_leaves_the_pictures_out(tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image": [jpeg(0)] * 6}), source)
    dataset = write_embeddings(tmp_path / "embeddings", VECTORS, VECTORS, source=source)
    source.unlink()
    pictures = pictures_of(Embeddings.open(str(dataset)), {0, 5})
    assert pictures.found == {}
    assert all("not there any more" in pictures.missing[row] for row in (0, 5))


def test_a_source_that_was_written_again_gives_no_wrong_pictures(tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image": [jpeg(row) for row in range(6)]}), source)
    dataset = write_embeddings(tmp_path / "embeddings", VECTORS, VECTORS, source=source)
    status = source.stat()
    pq.write_table(pa.table({"image": [jpeg(5 - row) for row in range(6)]}), source)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    pictures = pictures_of(Embeddings.open(str(dataset)), {0, 5})
    assert pictures.found == {}
    assert all("was changed since" in pictures.missing[row] for row in (0, 5))


def test_a_picture_beside_the_source_that_is_another_one_is_not_shown(tmp_path: Path) -> None:
    """The file that names it has not changed; its sha256 is another than was embedded."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg(100))
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image_path": ["a.jpg", "b.jpg"], "caption": ["a", "b"]}), source)
    embedded = CliRunner().invoke(main, ["embed", "--input", str(source), "--output", str(tmp_path / "embeddings")])
    assert embedded.exit_code == 0, embedded.output
    (tmp_path / "b.jpg").write_bytes(jpeg(101))
    pictures = pictures_of(Embeddings.open(str(tmp_path / "embeddings")), {0, 1})
    assert sorted(pictures.found) == [0]
    assert "another one" in pictures.missing[1]


def test_an_index_over_embeddings_that_were_made_anew_shows_no_pictures(tmp_path: Path) -> None:
    thumbnails = [jpeg(40 * row, (20, 20)) for row in range(6)]
    dataset = write_embeddings(tmp_path / "e", VECTORS, VECTORS, thumbnails=thumbnails)
    values = {"embeddings": str(dataset), "output": str(tmp_path / "i"), "tuning_queries": 2}
    index = build_here(make_build(IndexSettings.model_validate(values)))
    assert sorted(pictures_of_results(index.manifest, {0, 1}).found) == [0, 1]
    manifest = dataset / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    pictures = pictures_of_results(index.manifest, {0, 1})
    assert pictures.found == {}
    assert "made anew" in pictures.missing[0]
    asked = Asked("a dog", "clipmill search", datetime(2026, 1, 2, tzinfo=timezone.utc))
    page = render_page(asked, [{"rank": 1, "score": 0.5, "row": 0, "id": "x"}], pictures)
    assert "no picture: the embeddings were made anew" in page


def test_a_source_that_takes_too_much_memory_leaves_the_pictures_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_size, "_MOST_EXPANDED", 5 << 20)
    source = tmp_path / "source.parquet"
    pictures = pa.array([bytes(1 << 20)] * 6, pa.large_binary())
    pq.write_table(pa.table({"image": pictures}), source, compression="zstd", use_dictionary=False)
    dataset = write_embeddings(tmp_path / "embeddings", VECTORS, VECTORS, source=source)
    found = pictures_of(Embeddings.open(str(dataset)), {0, 5})
    assert found.found == {}
    assert all("column 'image' has" in found.missing[row] for row in (0, 5))


def test_pictures_are_found_in_a_large_row_group(tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"image": [jpeg(row % 250) for row in range(300)]}), source)
    vectors = np.tile(VECTORS, (50, 1))
    dataset = write_embeddings(tmp_path / "embeddings", vectors, vectors, source=source)
    found = pictures_of(Embeddings.open(str(dataset)), {3, 64, 200, 299}).found
    assert {row: shade_of(picture) for row, picture in found.items()} == {3: 3, 64: 64, 200: 200, 299: 49}
