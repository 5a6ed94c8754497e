"""An evaluation publishes five files, is not repeated, and does not replace another report unasked."""

import json
import os
from pathlib import Path

import pytest

from captioned import identity, pairs, write_captioned
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.report.document import Report
from clipmill.stage.stage import Made
from reported import evaluate

IMAGES, CAPTIONS, ROWS = pairs(12, 2)


def settings(tmp_path: Path, **values: object) -> EvaluateSettings:
    if not (tmp_path / "e").exists():
        write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS)
    given = {"embeddings": tmp_path / "e", "output": tmp_path / "r", "templates": "plain", "bootstrap_samples": 20}
    return EvaluateSettings(
        **{key: str(value) if isinstance(value, Path) else value for key, value in (given | values).items()}
    )


def run(asked: EvaluateSettings) -> Made[Report]:
    def no_encoder(identity: object) -> None:
        raise AssertionError("no text encoder is needed here")

    return evaluate(asked, no_encoder)


def test_the_folder_holds_the_five_files_and_nothing_else(tmp_path: Path) -> None:
    done = run(settings(tmp_path))
    assert not done.already
    assert sorted(os.listdir(tmp_path / "r")) == [
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
        "report.queries.parquet",
    ]
    assert sorted(os.listdir(tmp_path)) == ["e", "r"]
    assert Report.model_validate_json((tmp_path / "r" / "report.json").read_bytes()) == done.manifest
    assert json.loads((tmp_path / "r" / "report.json").read_text())["schema_version"] == 1


def test_the_same_again_is_already_complete(tmp_path: Path) -> None:
    made = run(settings(tmp_path)).manifest
    again = run(settings(tmp_path))
    assert again.already
    assert again.manifest == made


@pytest.mark.parametrize(
    ("change", "said"), [({"seed": 4}, "seed: was 0, now 4"), ({"templates": "simple"}, "templates")]
)
def test_other_settings_are_refused_and_replace_only_when_asked(tmp_path: Path, change: dict, said: str) -> None:
    made = run(settings(tmp_path)).manifest
    with pytest.raises(OutputDiffers, match=said):
        run(settings(tmp_path, **change))
    replaced = run(settings(tmp_path, **change, overwrite=True))
    assert not replaced.already
    assert replaced.manifest.settings != made.settings


def test_other_embeddings_and_other_templates_in_the_same_file_are_refused(tmp_path: Path) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("a {}\n")
    run(settings(tmp_path, templates=str(templates)))
    templates.write_text("the {}\n")
    with pytest.raises(OutputDiffers, match="template file"):
        run(settings(tmp_path, templates=str(templates)))
    templates.write_text("a {}\n")
    write_captioned(tmp_path / "other", IMAGES[:6], CAPTIONS[:12], ROWS[:12])
    with pytest.raises(OutputDiffers, match="embeddings manifest"):
        run(settings(tmp_path, templates=str(templates), embeddings=tmp_path / "other"))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.txt").write_text("work of years")
    with pytest.raises(UserError, match="other files"):
        run(settings(tmp_path))
    with pytest.raises(UserError, match="other files"):
        run(settings(tmp_path, overwrite=True))
    assert os.listdir(tmp_path / "r") == ["thesis.txt"]


def test_the_report_names_the_command_that_makes_it_again(tmp_path: Path) -> None:
    made = run(settings(tmp_path, output=tmp_path / "my report", seed=7)).manifest
    assert made.command == (
        f"clipmill evaluate --output '{tmp_path}/my report' --embeddings {tmp_path}/e --templates plain "
        "--bootstrap-samples 20 --seed 7"
    )


def test_identical_captions_lower_the_ceiling_and_not_the_honesty(tmp_path: Path) -> None:
    write_captioned(tmp_path / "e", IMAGES, IMAGES[[0] * 12], range(12), texts=["same"] * 12, model=identity(16))
    made = run(settings(tmp_path)).manifest
    t2i = made.retrieval[0]
    assert t2i.ceiling[1] == pytest.approx(1 / 12)
    assert t2i.figures[0].value <= t2i.ceiling[1] + 1e-9
    assert any("no model could expect more than 8.3%" in sentence for sentence in made.summary)
