"""The examples run as they are: the notebook cell by cell, each script with its arguments."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import clipmill
from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.scenes.dataset import write_scenes
from tiny_generators import tiny_generator

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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder


def test_tags(scenes: Path, tmp_path: Path) -> None:
    """With the built-in model, which knows these shapes: most of the pictures get the tag of their main object."""
    table = pq.read_table(next(scenes.glob("*.parquet")))
    labels = dict(zip(table.column("id").to_pylist(), table.column("label").to_pylist(), strict=True))
    tags = sorted(set(labels.values()))
    found = dict(line.split("\t") for line in run("tags.py", scenes, tmp_path, *tags).splitlines())
    assert set(found) == set(labels)
    assert np.mean([found[key] == label for key, label in labels.items()]) > 0.6


def test_audit(scenes: Path, model: Path, tmp_path: Path) -> None:
    table = pq.read_table(next(scenes.glob("*.parquet")))
    red = ["yes" if "red" in label else "no" for label in table.column("label").to_pylist()]
    (tmp_path / "in").mkdir()
    pq.write_table(table.append_column("is_red", pa.array(red)), tmp_path / "in/part.parquet")
    lines = run("audit.py", tmp_path / "in", tmp_path / "out", model, "Is it red?", "is_red").splitlines()
    said = int(lines[0].split(", ")[1].split()[0])
    assert lines[0].startswith("40 pictures asked")
    yes = set(lines[1 : 1 + said])
    assert len(yes) == said
    right = [(key in yes) == (answer == "yes") for key, answer in zip(table.column("id").to_pylist(), red, strict=True)]
    assert lines[1 + said :] == [f"accuracy {np.mean(right):.3f}"]


def of_this_machine(name: str, folder: Path, scenes: Path, model: Path) -> Path:
    """A run file of the examples with its places on this machine."""
    document = yaml.safe_load((EXAMPLES / name).read_text())
    document["output"] = str(folder / "out")
    document["caption"] |= {"model": str(model), "max_tokens": 8}
    document["embed"]["input"] = str(scenes)
    (folder / name).write_text(yaml.safe_dump(document))
    return folder / name


def test_alt_text(scenes: Path, model: Path, tmp_path: Path) -> None:
    assert clipmill.run(of_this_machine("alt_text.yaml", tmp_path, scenes, model)) is not None
    (texts,) = (tmp_path / "out/words").glob("*/texts")
    rows = pq.ParquetDataset(texts / "texts").read().to_pylist()
    rejected = pq.ParquetDataset(texts / "rejected").read().num_rows
    assert len(rows) + rejected == 40
    assert len(rows) > 30
    assert all(0 < len(row["text"]) <= 125 for row in rows)


def test_better_captions(scenes: Path, model: Path, tmp_path: Path) -> None:
    version = clipmill.run(of_this_machine("better_captions.yaml", tmp_path, scenes, model))
    assert version is not None
    assert version.counts.images == 40
    captions = pq.read_table(next(scenes.glob("*.parquet"))).column("caption").to_pylist()
    kept = Embeddings.open(str(tmp_path / "out/runs" / version.name / "embeddings")).table("captions", ["caption"])
    true = {text for texts in captions for text in texts}
    of_scenes = [text in true for text in kept.column("caption").to_pylist()]
    assert sum(of_scenes) >= 0.9 * len(true)
    assert np.mean(of_scenes) >= 0.95


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
