"""The template of an encoder of one's own, installed beside the wheel where there is no checkout, through every command."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from installed import ROOT, packages_of, python_of

Command = Callable[..., str]


@pytest.fixture(scope="module")
def clipmill(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs a command to its end where both packages are installed, in a working directory that lasts."""
    folder = tmp_path_factory.mktemp("encoder")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(ROOT / "examples/encoder")], check=True, capture_output=True, timeout=300)
    python = python_of(folder / "environment", wheel)
    with zipfile.ZipFile(next(folder.glob("colour_encoder-*.whl"))) as archive:
        archive.extractall(packages_of(folder / "environment"))
    (folder / "work").mkdir()

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), "-m", "clipmill_jobs", *arguments],
            cwd=folder / "work",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.cluster
def test_it_embeds_on_a_cluster_and_what_it_made_goes_through_every_command(clipmill: Command) -> None:
    clipmill("sample", "--output", "scenes", "--rows", "120", "--image-size", "32")
    clipmill("embed", "--input", "scenes", "--output", "there", "--model", "colours", "--address", "local")
    clipmill("embed", "--input", "scenes", "--output", "embeddings", "--model", "colours")
    clipmill("index", "--embeddings", "embeddings", "--output", "index")
    (first, *_) = json.loads(clipmill("search", "--index", "index", "--text", "a blue square", "--json"))["results"]
    assert first["rank"] == 1
    clipmill("evaluate", "--embeddings", "embeddings", "--index", "index", "--output", "report")
    clipmill("evaluate", "--embeddings", "there", "--output", "again")
    clipmill("compare", "report", "again", "--output", "comparison")
    clipmill("dedup", "--embeddings", "embeddings", "--output", "duplicates", "--threshold", "0.99")
    clipmill("filter", "--embeddings", "embeddings", "--output", "selection", "--duplicates", "duplicates")
    for place in ("there", "embeddings", "index", "report", "duplicates", "selection"):
        clipmill("verify", place)


@pytest.mark.cluster
def test_a_run_publishes_what_it_makes(clipmill: Command) -> None:
    clipmill("sample", "--output", "more", "--rows", "60", "--image-size", "32")
    clipmill("run", "more", "--output", "published", "--model", "colours:8")
    found = json.loads(clipmill("search", "--index", "published", "--text", "something red", "--json"))["results"]
    assert found
    clipmill("verify", "published")
