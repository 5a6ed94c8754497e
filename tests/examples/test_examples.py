"""The examples run as they are: the notebook cell by cell, each script with its arguments."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.scenes.dataset import write_scenes

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "scenes"
    write_scenes(SampleSettings(output=str(folder), rows=40, image_size=48), Silent())
    return folder


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scripts_are_about_ten_lines_and_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for script in EXAMPLES.glob("*.py"):
        body = ast.parse(script.read_text()).body
        assert len(body) <= 12, script.name
        assert f"]({script.name})" in listed


def test_embed_and_search(scenes: Path, tmp_path: Path) -> None:
    lines = run("embed_and_search.py", scenes, tmp_path, "two green triangles").splitlines()
    assert len(lines) == 5
    assert all(line.split()[1].startswith("held-out-") for line in lines)


def test_near_duplicates(scenes: Path, tmp_path: Path) -> None:
    run("embed_and_search.py", scenes, tmp_path, "a star")
    assert "of 40 pictures can be dropped" in run("near_duplicates.py", tmp_path / "embeddings", tmp_path / "found")


def test_nightly(scenes: Path, tmp_path: Path) -> None:
    run_file = tmp_path / "nightly.yaml"
    run_file.write_text(f"output: {tmp_path}/nightly\nembed:\n  input: {scenes}\nindex: {{}}\n")
    assert run("nightly.py", run_file, tmp_path / "nightly", "a star").startswith("40 rows encoded for version")
    assert run("nightly.py", run_file, tmp_path / "nightly", "a star").startswith("nothing new")


def test_the_notebook_goes_from_a_folder_to_search_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        picture = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8))
        picture.save(tmp_path / "pictures" / f"{number}.jpg")
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"picture number {number}\n")
    monkeypatch.chdir(tmp_path)
    shown = cells_of(json.loads((EXAMPLES / "photographs.ipynb").read_text()))
    results = [value for value in shown if value is not None]
    (hits,) = [value for value in results if hasattr(value, "_repr_html_") and hasattr(value, "scores")]
    assert hits._repr_html_().count("<img") == 5
    lists = [value for value in results if isinstance(value, list)]
    assert [True] in lists
    assert any("report.html" in value for value in lists)


def cells_of(notebook: dict[str, Any]) -> list[Any]:
    """What the last line of each code cell shows, as a notebook does."""
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    return shown
