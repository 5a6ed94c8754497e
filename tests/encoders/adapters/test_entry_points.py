"""The template of an encoder package, installed as a user installs it, works through the commands."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipmill.datasets.manifests import Embeddings

TEMPLATE = Path(__file__).parents[3] / "examples" / "encoder"
QUESTION = "something green and yellow"


class Installed:
    """clipmill beside the installed package, each command in a process of its own."""

    def __init__(self, site: Path) -> None:
        paths = [str(site), *filter(None, sys.path)]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=300, check=False)

    def __call__(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def clipmill(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "encoder"
    shutil.copytree(TEMPLATE, source)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(site), str(source)], check=True, capture_output=True, timeout=300)
    return Installed(site)


@pytest.fixture(scope="module")
def place(clipmill: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    clipmill("sample", "--output", folder / "scenes", "--rows", 60, "--image-size", 48)
    clipmill("embed", "--input", folder / "scenes", "--output", folder / "embeddings", "--model", "colours:32")
    clipmill("index", "--embeddings", folder / "embeddings", "--output", folder / "index")
    return folder


def test_what_it_encodes_is_found_by_what_it_encodes(clipmill: Installed, place: Path) -> None:
    manifest = Embeddings.open(str(place / "embeddings")).manifest
    assert manifest.model is not None
    assert (manifest.model.name, manifest.dimension, manifest.counts.images) == ("colours:32", 6, 60)
    answer = json.loads(clipmill("search", "--index", place / "index", "--text", QUESTION, "-k", 5, "--json"))
    vectors = np.concatenate(
        [
            np.stack(shard.column("embedding").to_pylist())
            for part in Embeddings.open(str(place / "embeddings")).shards_of("images")
            for shard in [Embeddings.open(str(place / "embeddings")).open_shard(part).read(["embedding"])]
        ]
    ).astype(np.float64)
    asked = np.array([0, 1, 0, 1, 0, 0]) + 1e-3  # green and yellow, as the template orders its colours
    expected = np.sort(vectors @ (asked / np.linalg.norm(asked)))[::-1][:5]
    np.testing.assert_allclose([one["score"] for one in answer["results"]], expected, atol=2e-3)


def test_it_is_evaluated_and_verified(clipmill: Installed, place: Path) -> None:
    clipmill("evaluate", "--embeddings", place / "embeddings", "--output", place / "report")
    clipmill("verify", place / "embeddings")
    report = json.loads((place / "report" / "report.json").read_text())
    assert report["model"]["name"] == "colours:32"


def test_another_argument_is_another_model(clipmill: Installed, place: Path) -> None:
    again = ("embed", "--input", place / "scenes", "--output", place / "embeddings", "--model")
    assert clipmill.run(*again, "colours:32").returncode == 0
    refused = clipmill.run(*again, "colours:16")
    assert refused.returncode == 2
    assert "preprocessing" in refused.stderr


def test_its_own_refusals_are_told_as_ours_are(clipmill: Installed, place: Path, tmp_path: Path) -> None:
    refused = clipmill.run("embed", "--input", place / "scenes", "--output", tmp_path / "no", "--model", "colours:wide")
    assert refused.returncode == 2
    assert "such as colours:32" in refused.stderr
    assert "Traceback" not in refused.stderr
