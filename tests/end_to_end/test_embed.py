"""Embedding keeps its promises through the command line: every row accounted for, once, whatever it is."""

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from clipmill_jobs import reporting
from clipmill_jobs.__main__ import main


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (80, 60), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GOOD = {
    "jpeg": jpeg((200, 10, 10)),
    "one_pixel": encoded(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG"),
    "very_wide": encoded(Image.new("RGB", (20_000, 20), (1, 200, 3)), "PNG"),
    "cmyk": encoded(Image.new("CMYK", (32, 32), (10, 20, 30, 40)), "JPEG"),
    "grey_16_bit": encoded(Image.fromarray(np.full((20, 20), 40_000, np.uint16)), "PNG"),
    "palette": encoded(Image.new("P", (20, 20), 3), "PNG", transparency=0),
    "animation": encoded(
        Image.new("RGB", (20, 20), (0, 0, 9)),
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", (20, 20), (9, 0, 0))],
    ),
    "webp": encoded(Image.new("RGB", (20, 20), (0, 70, 9)), "WEBP"),
}
BROKEN = {
    "null": (None, "missing_image"),
    "empty": (b"", "empty_image"),
    "html": (b"<!DOCTYPE html><html>404 Not Found</html>", "not_an_image"),
    "noise": (bytes(range(256)) * 4, "not_an_image"),
    "cut": (jpeg((3, 4, 5), (400, 300))[:900], "truncated_image"),
    "bomb": (encoded(Image.new("1", (30_000, 30_000)), "PNG"), "too_many_pixels"),
}


@pytest.fixture(scope="module")
def odd_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    images = [*GOOD.values(), *(data for data, _ in BROKEN.values())]
    captions = [["a picture", "another"], None, [], [""], [None, "fine"], ["x"] * 3, ["y"], ["z"]]
    captions += [["of a broken image"]] * len(BROKEN)
    table = pa.table(
        {
            "image": pa.array([{"bytes": data, "path": None} for data in images]),
            "caption": pa.array(captions, pa.list_(pa.string())),
            "id": ["same"] * len(images),
            "source": [*GOOD, *BROKEN],
            "width": pa.array(range(len(images)), pa.int64()),
        }
    )
    pq.write_table(table, folder / "odd.parquet")
    return folder


@pytest.fixture(scope="module")
def odd_output(odd_input: Path, clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "odd"
    done = clipmill("embed", "--input", odd_input, "--output", output, "--thumbnails", 64)
    assert done.code == 0, done.err
    return output


def read(output: Path, part: str) -> list[dict]:
    return pq.read_table(output / part).to_pylist()


def test_odd_but_valid_images_are_embedded_and_broken_ones_rejected_with_their_reason(odd_output: Path) -> None:
    images = {row["source"]: row for row in read(odd_output, "images")}
    assert set(images) == set(GOOD)
    rejected = {row["row"]: row["reason"] for row in read(odd_output, "rejected") if row["kind"] == "image"}
    assert rejected == {len(GOOD) + index: reason for index, (_, reason) in enumerate(BROKEN.values())}
    assert (images["very_wide"]["width"], images["very_wide"]["height"]) == (20_000, 20)
    assert all(row["thumbnail"][:2] == b"\xff\xd8" for row in images.values())


def test_a_column_that_collides_gets_a_prefix(odd_output: Path) -> None:
    assert [row["source_width"] for row in read(odd_output, "images")] == list(range(len(GOOD)))


def test_every_caption_is_embedded_or_rejected_and_scored_with_its_own_image(odd_output: Path) -> None:
    captions = {(row["row"], row["caption_index"]): row for row in read(odd_output, "captions")}
    rejects = {(row["row"], row["caption_index"]) for row in read(odd_output, "rejected") if row["kind"] == "caption"}
    assert rejects == {(3, 0), (4, 0)}
    first_broken = len(GOOD)
    expected = {(0, 0), (0, 1), (4, 1), (5, 0), (5, 1), (5, 2), (6, 0), (7, 0)}
    expected |= {(first_broken + index, 0) for index in range(len(BROKEN))}
    assert set(captions) == expected
    vectors = {row["row"]: np.asarray(row["embedding"], np.float32) for row in read(odd_output, "images")}
    for (row, _), caption in captions.items():
        if row not in vectors:
            assert caption["clip_score"] is None
            continue
        own = np.asarray(caption["embedding"], np.float32)
        cosine = own @ vectors[row] / np.linalg.norm(own) / np.linalg.norm(vectors[row])
        assert caption["clip_score"] == pytest.approx(cosine, abs=1e-5)


def test_verify_proves_it_whole_and_mentions_repeated_ids(odd_output: Path, clipmill: Callable) -> None:
    done = clipmill("verify", odd_output, "--json")
    assert done.code == 0
    assert done.document["whole"]
    assert any("id" in note for note in done.document["notes"])


def test_same_command_again_is_already_complete_and_another_says_what_differs(
    odd_input: Path, odd_output: Path, clipmill: Callable
) -> None:
    again = clipmill("embed", "--input", odd_input, "--output", odd_output, "--thumbnails", 64)
    assert (again.code, "already complete" in again.out) == (0, True)
    other = clipmill("embed", "--input", odd_input, "--output", odd_output)
    assert other.code == 2
    assert "thumbnails" in other.err


def test_overwrite_replaces_the_dataset(odd_input: Path, odd_output: Path, clipmill: Callable, tmp_path: Path) -> None:
    output = tmp_path / "data"
    shutil.copytree(odd_output, output)
    assert clipmill("embed", "--input", odd_input, "--output", output, "--limit", 3, "--overwrite").code == 0
    assert len(read(output, "images")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_embeddings_open_in_pandas_polars_and_duckdb_without_this_project(odd_output: Path, tmp_path: Path) -> None:
    program = """
import sys, duckdb, numpy, pandas, polars
images = sys.argv[1] + "/images/*.parquet"
vectors = numpy.stack(pandas.read_parquet(sys.argv[1] + "/images")["embedding"])
again = polars.read_parquet(images)["embedding"].to_numpy()
rows = duckdb.sql(f"select row, embedding from '{images}' order by row").fetchall()
assert (vectors == again).all() and len(rows) == len(vectors) == int(sys.argv[2])
assert numpy.allclose(numpy.asarray([row[1] for row in rows], numpy.float32), vectors.astype(numpy.float32))
assert not any(name.split(".")[0] in ("clipmill", "clipmill_jobs") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(odd_output), str(len(GOOD))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_files_of_different_schemas_and_one_core_work(clipmill: Callable, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    pq.write_table(pa.table({"image": [GOOD["jpeg"]], "text": ["one"], "n": [1]}), source / "a.parquet")
    pq.write_table(pa.table({"text": ["two", "three"], "language": ["en", "de"]}), source / "b.parquet")
    pq.write_table(pa.table({"image": [GOOD["webp"], None]}), source / "c.parquet")
    done = clipmill("embed", "--input", source, "--output", tmp_path / "out", "--cpus", 1, "--json")
    assert done.code == 0, done.err
    counts = done.document["counts"]
    assert (counts["rows"], counts["images"], counts["captions"], counts["rejected_images"]) == (5, 2, 3, 1)
    assert clipmill("verify", tmp_path / "out").code == 0


def test_images_by_path_beside_the_parquet_file(clipmill: Callable, tmp_path: Path) -> None:
    (tmp_path / "in/pictures").mkdir(parents=True)
    (tmp_path / "in/pictures/a.jpg").write_bytes(GOOD["jpeg"])
    paths = ["pictures/a.jpg", "pictures/absent.jpg", str(tmp_path / "in/pictures/a.jpg")]
    pq.write_table(pa.table({"image_path": paths, "caption": ["a", "b", "c"]}), tmp_path / "in/list.parquet")
    done = clipmill("embed", "--input", tmp_path / "in", "--output", tmp_path / "out", "--json")
    assert done.document["counts"]["images"] == 2
    assert done.document["counts"]["rejected_by_reason"] == {"image_not_found": 1}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--input", "{empty}"], "empty"),
        (["--input", "{absent}"], "absent"),
        (["--input", "{odd}", "--model", "ViT-Z-1"], "ViT-Z-1"),
        (["--input", "{odd}", "--model", "ViT-B-32", "--pretrained", "nonesuch"], "nonesuch"),
        (["--input", "{odd}", "--image-column", "nope"], "nope"),
        (["--input", "{odd}", "--batch-size", "-1"], "batch-size"),
        (["--input", "{cut}"], "cut.parquet"),
        (["--input", "{odd}", "--output", "{odd}"], "outside the input"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], named: str, odd_input: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_FIRST_WORD_SECONDS", 60)  # however slow the machine is
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.parquet").write_bytes((odd_input / "odd.parquet").read_bytes()[:500])
    places = {
        "empty": tmp_path / "empty",
        "absent": tmp_path / "absent",
        "odd": odd_input,
        "cut": tmp_path / "cut.parquet",
    }
    filled = [argument.format(**places) for argument in arguments]
    output = [] if "--output" in filled else ["--output", str(tmp_path / "out")]
    done = CliRunner().invoke(main, ["embed", *filled, *output])
    assert done.exit_code == 2, done.output
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_rotten_input_ends_the_run_and_says_so(clipmill: Callable, tmp_path: Path) -> None:
    """Several units, so that the run is given up while others are still under way."""
    rotten = pa.table({"image": [b"not a picture"] * 3000, "caption": ["something"] * 3000})
    pq.write_table(rotten, tmp_path / "rotten.parquet", row_group_size=600)
    done = clipmill(
        "embed", "--input", tmp_path / "rotten.parquet", "--output", tmp_path / "out", "--max-rejects", "5%"
    )
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert "not_an_image" in last
    assert "--max-rejects 0.05" in last
    assert not (tmp_path / "out").exists()
