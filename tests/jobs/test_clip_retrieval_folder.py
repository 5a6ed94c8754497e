"""From clip-retrieval: its output folder to `explore` in two commands, by words too where the model is named."""

import importlib.util
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import clipmill
from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import load_model
from clipmill_jobs.__main__ import main

pytest.importorskip("fsspec")


def written_by_them() -> type:
    """Their writer, from its file alone: the package around it wants a web server."""
    package = importlib.util.find_spec("clip_retrieval")
    if package is None or not package.submodule_search_locations:
        pytest.skip("clip-retrieval is not installed")
    file = Path(package.submodule_search_locations[0]) / "clip_inference/writer.py"
    spec = importlib.util.spec_from_file_location("their_writer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NumpyWriter


TEXTS = ["a red circle", "a blue square", "a yellow star", "a green triangle", "a purple heart", "a white hexagon"]


def written(folder: Path, vectors: np.ndarray, *, texts: bool = True, metadata: bool = True) -> Path:
    """What clip-retrieval writes of these, in two partitions, by its own writer."""
    for partition, rows in enumerate(np.array_split(np.arange(len(vectors)), 2)):
        writer = written_by_them()(partition, str(folder), texts, True, metadata, 2)
        sample = {
            "image_embs": vectors[rows],
            "image_filename": [f"/photos/{row}.jpg" for row in rows],
            "text_embs": vectors[rows],
            "text": [TEXTS[row] for row in rows],
            "metadata": [json.dumps({"year": 2000 + int(row)}) for row in rows],
        }
        writer(sample)
        writer.flush()
    return folder


def typed(*arguments: object) -> str:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


@contextmanager
def explored(place: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "clipmill_jobs", "explore", str(place), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(60)


def asked(address: str, body: dict) -> list[dict]:
    body = {**body, "include": ["columns", "caption"]}
    request = urllib.request.Request(
        f"{address}v1/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["results"]


def test_two_commands_to_a_page_that_is_asked_in_words(tmp_path: Path) -> None:
    vectors = load_model(ModelSettings()).encode_texts(TEXTS)
    source, place = written(tmp_path / "out", vectors), tmp_path / "photos.clipmill"
    told = typed("import", "clip-retrieval", source, "--output", place, "--model", "builtin")
    assert told.splitlines()[-1] == f"clipmill explore {place}"
    with explored(place) as address:
        (first,) = asked(address, {"text": "a yellow star", "k": 1})
        assert first["columns"]["image_path"] == "/photos/2.jpg"
        assert first["columns"]["year"] == 2002
        (like,) = asked(address, {"row": first["row"], "k": 1})
        assert like["row"] == first["row"]
    found = typed("search", "--index", place, "--text", "a blue square", "-k", "1", "--json")
    assert json.loads(found)["results"][0]["image_path"] == "/photos/1.jpg"
    assert [one.faults for one in map(clipmill.verify, (place / "embeddings", place / "index")) for one in one] == [
        [],
        [],
    ]
    assert typed("import", "clip-retrieval", source, "--output", place, "--model", "builtin") == told, "done already"


def test_without_a_model_rows_are_searched_by_what_is_like_them(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 24)).astype(np.float16)
    source, place = written(tmp_path / "out", vectors, texts=False), tmp_path / "found"
    typed("import", "clip-retrieval", source, "--output", place)
    with explored(place) as address:
        assert len(asked(address, {"row": 0, "k": 3})) == 3
    done = CliRunner().invoke(main, ["search", "--index", str(place), "--text", "a cat"])
    assert done.exit_code == 2
    assert "search it by --id" in done.stderr


def test_another_model_than_made_the_vectors_and_other_folders_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "out", np.ones((6, 24), np.float16))
    done = CliRunner().invoke(
        main, ["import", "clip-retrieval", str(source), "--output", str(tmp_path / "a"), "--model", "builtin"]
    )
    assert done.exit_code == 2
    assert re.search(r"the vectors have 24 dimensions and those of the model builtin have \d+", done.stderr)
    done = CliRunner().invoke(main, ["import", "clip-retrieval", str(tmp_path), "--output", str(tmp_path / "b")])
    assert done.exit_code == 2
    assert "has no folder img_emb" in done.stderr
    assert not (tmp_path / "b").exists()
