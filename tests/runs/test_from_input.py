"""A folder in place of a run file: published beside it, only what is new the next time, and the run file that it stands for."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

import clipmill
from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, RunSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill.runs.beside import output_for
from clipmill.runs.from_input import is_run_file, read_asked
from clipmill.runs.run_file import read_run_file
from clips import tone, wav

COLOURS = ("red", "yellow", "green", "blue", "white")


def write(path: Path, colour: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (64, 64), "lightgrey")
    ImageDraw.Draw(picture).ellipse((12, 12, 52, 52), fill=colour)
    picture.save(path)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, colour in enumerate(COLOURS):
        write(tmp_path / f"photos/{number}.jpg", colour)
    return tmp_path / "photos"


def rows_encoded(version: str, place: Path) -> int:
    return Embeddings.open(str(place / "runs" / version / "embeddings")).manifest.runs[-1].rows_encoded


def test_a_folder_is_published_beside_it_and_only_what_is_new_is_encoded_again(photos: Path) -> None:
    before = sorted(photos.iterdir())
    first = clipmill.run("photos/")
    place = photos.parent / "photos.clipmill"
    assert first is not None
    assert rows_encoded(first.name, place) == 5
    assert sorted(photos.iterdir()) == before, "nothing is written into the input"
    hits = clipmill.open_index(place).search(photos / "3.jpg", k=1)
    assert hits[0].id == "3.jpg"
    assert (place / "runs" / first.name / "report/report.html").is_file()

    assert clipmill.run(photos) is None, "nothing has changed"
    write(photos / "new.jpg", "purple")
    second = clipmill.run("photos")
    assert second is not None
    assert (rows_encoded(second.name, place), second.counts.images) == (1, 6)


def test_the_saved_run_file_stands_for_the_same_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = clipmill.run("photos/", save_config="photos.yaml", output="found", limit="3")
    assert version is not None
    assert version.counts.images == 3
    document = yaml.safe_load((photos.parent / "photos.yaml").read_text())
    assert document["output"] == str(photos.parent / "found")
    assert (document["embed"]["input"], document["embed"]["limit"]) == (str(photos), 3)
    monkeypatch.chdir("/")
    assert clipmill.run(photos.parent / "photos.yaml") is None, "the same run, from anywhere"


def test_a_saved_run_file_takes_no_other_files_place(photos: Path) -> None:
    (photos.parent / "photos.yaml").write_text("mine")
    with pytest.raises(UserError, match="is there already, and is not replaced"):
        clipmill.run("photos/", save_config="photos.yaml")
    assert (photos.parent / "photos.yaml").read_text() == "mine"
    assert not (photos.parent / "photos.clipmill").exists()


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("photos", "photos.clipmill"),
        ("photos/", "photos.clipmill"),
        ("./photos/", "./photos.clipmill"),
        ("list.csv", "list.clipmill"),
        ("a/shard.tar.gz", "a/shard.clipmill"),
        ("a/rows.v2.parquet", "a/rows.v2.clipmill"),
        ("a/*.parquet", "a.clipmill"),
        ("a/**/x-?.tar", "a.clipmill"),
    ],
)
def test_the_place_is_beside_the_input_and_called_after_it(photos: Path, source: str, place: str) -> None:
    assert output_for(source, None) == place


def test_the_working_folder_is_called_by_its_name(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert output_for(".", None) == f"{photos}.clipmill"
    assert output_for("../photos", None) == "../photos.clipmill"


@pytest.mark.parametrize("output", ["photos", "photos/", "photos/a/b", "link/deep"])
def test_no_place_inside_the_input(photos: Path, output: str) -> None:
    os.symlink(photos, photos.parent / "link")
    with pytest.raises(
        UserError, match=r"lies inside the input .*; type: clipmill run photos/ --output photos.clipmill$"
    ):
        output_for("photos/", output)


def test_a_place_that_cannot_be_written_is_told_with_another(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(
        UserError, match=r"no permission to write into .*type: clipmill run photos --output ~/photos.clipmill$"
    ):
        output_for("photos", None)


def test_what_a_run_file_is(photos: Path) -> None:
    (photos.parent / "nightly").write_text("output: x")
    (photos.parent / "list.csv").write_text("image\n")
    found = {one for one in ("nightly", "absent.yaml", "list.csv", "photos", "s3://b/x", "absent") if is_run_file(one)}
    assert found == {"nightly", "absent.yaml"}


def test_sounds_are_what_is_searched_in_a_folder_of_sounds(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/a.wav").write_bytes(wav(tone(0.2, 400)))
    asked = read_asked(RunSettings(source=str(tmp_path / "sounds")), ClusterSettings())
    assert asked.run.index is not None
    assert asked.run.index.gallery == "audio"


def test_settings_reach_the_run_file_and_the_record_of_the_run(photos: Path) -> None:
    asked = read_asked(
        RunSettings(source="photos/", model="ViT-B-32", pretrained="openai", max_row_loss="50%", save_config="a.yaml"),
        ClusterSettings(cpus=1),
    )
    assert asked.called == "clipmill run photos/ --model ViT-B-32 --pretrained openai --max-row-loss 0.5 --cpus 1"
    run = read_run_file(photos.parent / "a.yaml")
    assert run == asked.run
    assert (run.embed.model, run.embed.pretrained, run.gates.max_row_loss, run.cluster.cpus) == (
        "ViT-B-32",
        "openai",
        0.5,
        1,
    )


def test_another_model_than_before_is_not_taken_without_a_word(photos: Path) -> None:
    shutil.copytree(BUILTIN_FOLDER, photos.parent / "mine", ignore=shutil.ignore_patterns("*.md"))
    assert clipmill.run("photos", pretrained="local-dir:mine") is not None
    with pytest.raises(UserError, match=r"type: clipmill run photos --pretrained local-dir:mine$"):
        clipmill.run("photos")
    assert clipmill.run("photos", pretrained="local-dir:mine") is None
    with pytest.raises(UserError, match="add --model builtin"):
        clipmill.run("photos")
