"""A training run is proven: the model before and after on held-out data, tested on the same queries, with its curves."""

import json
from pathlib import Path

import pytest

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, SampleSettings, TrainSettings
from clipmill.runs.stages import train_stage
from clipmill.runs.training_report import report_training
from clipmill.scenes.dataset import write_scenes
from html_page import Page

HERE = ClusterSettings(device="cpu")


def scenes(folder: Path, rows: int, split: str, seed: int) -> str:
    write_scenes(SampleSettings(output=str(folder), rows=rows, split=split, seed=seed, image_size=64), Silent())
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The report of a run that spoils the built-in model: a rate far too high."""
    folder = tmp_path_factory.mktemp("report")
    settings = TrainSettings(
        input=scenes(folder / "train", 48, "train", 0),
        validation=scenes(folder / "held-out", 40, "held-out", 1),
        compare_on=(scenes(folder / "other", 30, "held-out", 2),),
        pretrained=str(Path(__file__).parents[2] / "pipeline/clipmill/encoders/builtin"),
        output=str(folder / "model"),
        report=str(folder / "report"),
        steps=40,
        batch_size=8,
        learning_rate=0.05,
        validate_every=20,
    )
    record = train_stage(settings, HERE, Silent()).manifest
    return folder / "report", report_training(settings, record, HERE, Silent())


def test_both_sets_are_compared_and_a_spoilt_model_is_worse(made: tuple[Path, list[str]]) -> None:
    folder, lines = made
    for name in ("validation", "other-1"):
        comparison = json.loads((folder / name / "comparison" / "comparison.json").read_text())
        changes = {
            change["key"]: change["verdict"]
            for task in comparison["candidates"][0]["tasks"]
            for change in task["changes"]
        }
        assert changes["t2i.recall@10"] == "worse"
        assert any(line.startswith(f"{name}: ") for line in lines)


def test_the_page_shows_curves_and_leads_to_the_comparisons(made: tuple[Path, list[str]]) -> None:
    folder, _ = made
    text = (folder / "training.html").read_text()
    page = Page(text)
    for title in ("Loss", "Length of the gradient", "Inverse temperature", "Images per second", "text to image R@1"):
        assert f'aria-label="{title}"' in text
    for link in ("validation/comparison/comparison.html", "other-1/comparison/comparison.html"):
        assert f'href="{link}"' in text
        assert (folder / link).exists()
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    assert not any("//" in str(address) for address in addresses)
    document = json.loads((folder / "training.json").read_text())
    assert [entry["step"] for entry in document["losses"]] == [20, 40]
    assert [one["trained_for"] for one in document["sets"]] == [True, False]


def test_a_set_of_another_kind_may_have_other_columns(tmp_path: Path) -> None:
    """Trained on labels, whose column it lacks, with captions in a column of another name."""
    import pyarrow.parquet as pq

    other = scenes(tmp_path / "scenes", 24, "held-out", 3)
    plain = (
        pq.read_table(next(Path(other).glob("*.parquet")))
        .select(["image", "caption"])
        .rename_columns(["image", "text"])
    )
    (tmp_path / "other").mkdir()
    pq.write_table(plain, tmp_path / "other/data.parquet")
    settings = TrainSettings(
        input=scenes(tmp_path / "train", 32, "train", 0),
        validation=scenes(tmp_path / "held-out", 24, "held-out", 1),
        compare_on=(str(tmp_path / "other"),),
        output=str(tmp_path / "model"),
        report=str(tmp_path / "report"),
        label_column="label",
        steps=1,
        batch_size=8,
    )
    record = train_stage(settings, HERE, Silent()).manifest
    report_training(settings, record, HERE, Silent())
    found = {
        name: json.loads((tmp_path / "report" / name / "after/report/report.json").read_text())
        for name in ("validation", "other-1")
    }
    assert found["validation"]["zero_shot"]["column"] == "label"
    assert found["other-1"]["zero_shot"] is None
    assert found["other-1"]["retrieval"]


def test_a_second_time_nothing_is_made_again(made: tuple[Path, list[str]]) -> None:
    folder, lines = made
    document = json.loads((folder / "training.json").read_text())
    before = (folder / "validation/after/embeddings/manifest.json").stat().st_mtime_ns
    values = json.loads((Path(document["output"]) / "training.json").read_text())
    settings = TrainSettings.model_validate(
        {
            **values["configuration"],
            "output": document["output"],
            "report": str(folder),
            "compare_on": [document["sets"][1]["uri"]],
        }
    )
    made_again = train_stage(settings, HERE, Silent())
    assert made_again.already
    assert report_training(settings, made_again.manifest, HERE, Silent()) == lines
    assert (folder / "validation/after/embeddings/manifest.json").stat().st_mtime_ns == before
