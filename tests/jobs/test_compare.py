"""`clipmill compare` tells what changed, keeps a bar, and names a mistake."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from captioned import identity
from clipmill_jobs.compare import command
from reported import make_report
from two_models import IMAGES, PATHS, ROWS, captions_with


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    places = []
    for name, noise in (("good", 0.0), ("bad", 2.0)):
        folder = tmp_path_factory.mktemp(name)
        made = {"images": IMAGES, "captions": captions_with(noise), "caption_rows": ROWS, "paths": PATHS}
        make_report(folder, **made, model=identity(16))
        (folder / "r").rename(folder / name)
        places.append(str(folder / name))
    return places[0], places[1]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_differences_are_told_and_published(reports: tuple[str, str], tmp_path: Path) -> None:
    done = run(*reports, "--output", tmp_path / "c")
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith("text → image R@1 "))
    assert line.endswith("worse")
    assert done.stdout.splitlines()[-1] == f"{tmp_path}/c/comparison.html"
    again = run(*reports, "--output", tmp_path / "c")
    assert (again.exit_code, "already complete" in again.stdout) == (0, True)
    other = run(*reports, "--output", tmp_path / "c", "--seed", 5)
    assert (other.exit_code, "seed: was 0, now 5" in other.stderr) == (2, True)


def test_json_is_one_document(reports: tuple[str, str], tmp_path: Path) -> None:
    done = run(*reports, "--output", tmp_path / "c", "--json")
    document = json.loads(done.stdout)
    assert [report["name"] for report in document["reports"]] == ["good", "bad"]
    assert document["candidates"][0]["tasks"][0]["changes"][0]["verdict"] == "worse"
    assert (document["already_complete"], document["bars_missed"]) == (False, [])


def test_a_missed_bar_ends_with_3_after_publishing_and_also_when_run_again(
    reports: tuple[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        done = run(*reports, "--output", tmp_path / "c", "--max-drop", 0.05)
        assert done.exit_code == 3
        assert "bad: text → image R@1 fell from" in done.stderr
        assert (tmp_path / "c/comparison.json").exists()
    kept = run(*reports[::-1], "--output", tmp_path / "back", "--max-drop", 0.0)
    assert kept.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("good",), "two reports or more"),
        (("good", "good"), "the same report is given twice"),
        (("good", "nowhere"), "nowhere has no report.json"),
        (("good", "bad", "--max-drop", "2"), "--max-drop"),
        (("good", "bad", "--bootstrap-samples", "10"), "--bootstrap-samples"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    reports: tuple[str, str], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    places = dict(zip(("good", "bad"), reports, strict=True))
    done = run(*(places.get(argument, argument) for argument in arguments), "--output", tmp_path / "c")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert os.listdir(tmp_path) == []
