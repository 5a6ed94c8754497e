"""The built-in model says once that it knows nothing of photographs, with what to type; of scenes it says nothing."""

from pathlib import Path

import pytest
from PIL import Image

import clipmill
from clipmill import storage
from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.encoders.caution import SCENE_COLUMNS, published_at
from clipmill.report.write import read_report
from clipmill.scenes.dataset import SCENES, write_scenes


def test_the_columns_of_scenes_are_those_of_sample() -> None:
    assert set(SCENES.names) >= SCENE_COLUMNS


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"photos/{number}.jpg")
    return tmp_path / "photos"


def cautions(log: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in log.records if "built-in model" in one.getMessage()]


def test_it_is_said_once_and_stands_in_the_report(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    version = clipmill.run(photos)
    (told,) = cautions(caplog)
    place = f"{photos}.clipmill"
    assert told.endswith(
        f"type: clipmill run {photos} --output {place} --model ViT-B-32 --pretrained laion2b_s34b_b79k"
    )
    assert version is not None
    folder = storage.resolve(f"{place}/runs/{version.name}/report")
    assert read_report(folder).caution == told
    for page in ("report.html", "report.md"):
        assert "Read with care:" in storage.read_bytes(folder / page).decode()


def test_of_scenes_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scenes(SampleSettings(output=str(tmp_path / "scenes"), rows=20), Silent())
    clipmill.embed(tmp_path / "scenes", tmp_path / "out")
    assert cautions(caplog) == []
    report = clipmill.evaluate(tmp_path / "out", tmp_path / "report", probe=False)
    assert report.caution == ""


def test_the_place_of_a_version() -> None:
    assert published_at("s3://b/nightly/runs/20260101T000000Z-ab/embeddings") == "s3://b/nightly"
    assert published_at("out/embeddings") is None
