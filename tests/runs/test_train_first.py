"""A run that trains first embeds with the model that it trained, and publishes nothing where that model is no better."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import clipmill
from clipmill.core.errors import BarMissed, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.runs.run_file import read_run_file
from clipmill.scenes.dataset import write_scenes
from clipmill.versions.pointer import with_current

BUILTIN = str(Path(__file__).parents[2] / "pipeline/clipmill/encoders/builtin")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    made = {}
    for name, rows, split, seed in (
        ("train", 48, "train", 0),
        ("held-out", 40, "held-out", 1),
        ("input", 20, "held-out", 2),
    ):
        made[name] = str(folder / name)
        settings = SampleSettings(output=made[name], rows=rows, split=split, seed=seed, image_size=64)
        write_scenes(settings, Silent())
    return made


def run_file(folder: Path, data: dict[str, str], embed: dict[str, Any] | None = None, **train: Any) -> Path:
    options = {"input": data["train"], "steps": 2, "batch_size": 8, **train}
    document = {
        "output": str(folder / "place"),
        "train": {key: value for key, value in options.items() if value is not None},
        "embed": {"input": data["input"], **(embed or {})},
        "index": False,
        "evaluate": False,
        "cluster": {"device": "cpu"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    return folder / "run.yaml"


def test_what_is_embedded_is_embedded_with_the_model_and_a_second_run_trains_nothing(
    data: dict[str, str], tmp_path: Path
) -> None:
    path = run_file(tmp_path, data, validation=data["held-out"])
    assert clipmill.run(path) is not None
    (model,) = (entry for entry in (tmp_path / "place/models").iterdir() if not entry.name.endswith("-report"))
    found = with_current({"embeddings": str(tmp_path / "place")})
    manifest = json.loads((Path(found["embeddings"]) / "manifest.json").read_text())
    assert manifest["model"]["pretrained"] == f"local-dir:{model}"
    made = (model / "training.json").stat().st_mtime_ns
    assert clipmill.run(path) is None
    assert (model / "training.json").stat().st_mtime_ns == made


def test_a_model_that_is_worse_is_not_published(data: dict[str, str], tmp_path: Path) -> None:
    options = {"pretrained": BUILTIN, "validation": data["held-out"], "learning_rate": 0.05, "steps": 30}
    with pytest.raises(BarMissed, match=r"not better than the one it started from .*worse"):
        clipmill.run(run_file(tmp_path, data, **options))
    assert not (tmp_path / "place/current.json").exists()


@pytest.mark.parametrize(
    ("options", "embed", "words"),
    [
        ({"pretrained": BUILTIN}, {}, "train.validation is missing"),
        ({}, {"pretrained": BUILTIN}, "embed.pretrained follows from `train`"),
        ({"output": "elsewhere"}, {}, "train.output follows from `output`"),
        ({"stepps": 3}, {}, "train.stepps is not known; did you mean steps?"),
        ({"input": None}, {}, "train.input is missing"),
    ],
)
def test_mistakes_are_told_with_their_line(
    data: dict[str, str], tmp_path: Path, options: dict[str, Any], embed: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read_run_file(run_file(tmp_path, data, embed, **options))
