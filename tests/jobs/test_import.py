"""The command `clipmill import`: what it makes, what it prints, and how it ends."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipmill_jobs.__main__ import main

PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data/coco_mini"


def clipmill(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / "photos/cats").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / f"photos/cats/{number}.jpg")
        (tmp_path / f"photos/cats/{number}.txt").write_text(f"cat {number}\nanother caption\n")
    return tmp_path / "photos"


def test_a_folder_becomes_parquet(photos: Path, tmp_path: Path) -> None:
    result = clipmill("folder", photos, "--output", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {name: told[name] for name in ("output", "already_complete", "rows", "captions", "missing_images")} == {
        "output": str(tmp_path / "out"),
        "already_complete": False,
        "rows": 3,
        "captions": 6,
        "missing_images": 0,
    }
    assert [file["path"] for file in told["files"]] == ["part-00000.parquet"]
    assert pq.read_table(tmp_path / "out/part-00000.parquet")["caption"].to_pylist()[2] == ["cat 2", "another caption"]


def test_a_second_import_of_another_source_needs_overwrite(photos: Path, tmp_path: Path) -> None:
    arguments = ("folder", photos, "--output", tmp_path / "out")
    assert clipmill(*arguments).exit_code == 0
    again = clipmill(*arguments)
    assert (again.exit_code, "is already complete" in again.stdout) == (0, True)
    moved = photos.rename(tmp_path / "moved")
    arguments = ("folder", moved, "--output", tmp_path / "out")
    result = clipmill(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("clipmill import folder: --output")
    assert "--overwrite" in result.stderr
    assert clipmill(*arguments, "--overwrite").exit_code == 0


@pytest.mark.parametrize("name", ["coco", "flickr8k", "folder", "csv", "webdataset"])
def test_a_source_that_is_not_there_is_a_mistake_in_one_sentence(tmp_path: Path, name: str) -> None:
    result = clipmill(name, tmp_path / "absent", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "absent" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_images_are_counted_aloud(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("image,caption\nabsent.jpg,a\n")
    result = clipmill("csv", tmp_path / "x.csv", "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 image files are missing" in result.stdout


def test_vectors_become_embeddings_once(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.eye(4, 8, dtype=np.float32))
    arguments = ("vectors", "--images", tmp_path / "i.npy", "--texts", tmp_path / "i.npy", "--output", tmp_path / "out")
    first = clipmill(*arguments)
    assert (first.exit_code, "4 images and 4 captions, 0 rejected" in first.stdout) == (0, True)
    again = clipmill(*arguments, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["already_complete"] is True
    other = clipmill("vectors", "--images", tmp_path / "i.npy", "--output", tmp_path / "out")
    assert other.exit_code == 2
    assert "with a difference: texts" in other.stderr


def test_a_refusal_of_vectors_is_all_that_is_printed(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.eye(4, 8, dtype=np.float32))
    np.save(tmp_path / "t.npy", np.eye(5, 8, dtype=np.float32))
    arguments = ("--images", tmp_path / "i.npy", "--texts", tmp_path / "t.npy", "--output", tmp_path / "out")
    result = clipmill("vectors", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("clipmill import vectors: there are 4 images and 5 texts")
    assert len(result.stderr.splitlines()) == 1


def test_every_format_has_help_with_an_example() -> None:
    for name in ("coco", "flickr8k", "folder", "csv", "webdataset", "vectors"):
        result = clipmill(name, "--help")
        assert result.exit_code == 0
        assert f"clipmill import {name} " in result.stdout


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not there")
def test_coco_comes_whole(tmp_path: Path) -> None:
    result = clipmill("coco", PHOTOGRAPHS, "--output", tmp_path / "out", "--json")
    written = json.loads(result.stdout)
    assert (written["rows"], written["captions"], written["missing_images"]) == (159, 795, 0)
