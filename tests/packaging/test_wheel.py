"""The wheel holds the source roots, and runs whatever lies in the working directory: from a wheel, and from a checkout."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from installed import ROOT, python_of

HOSTILE = "raise ImportError('this is not the package that you are looking for')\n"
Command = Callable[..., subprocess.CompletedProcess[str]]


def source_files() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "pipeline/clipmill", "jobs/clipmill_jobs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {path.split("/", 1)[1] for path in listed.stdout.splitlines() if (ROOT / path).is_file()}


def test_the_wheel_holds_the_files_of_both_source_roots_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == source_files()
    assert "clipmill/py.typed" in names


@pytest.fixture(params=["wheel", "checkout"])
def clipmill(request: pytest.FixtureRequest, tmp_path: Path, wheel: Path) -> Command:
    """Runs a command in a working directory with packages that have our folders' names."""
    python = python_of(tmp_path / "environment", wheel) if request.param == "wheel" else Path(sys.executable)
    here = tmp_path / "work"
    for name in ("pipeline", "jobs"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text(HOSTILE)
    (here / "jobs.py").write_text(HOSTILE)
    (here / "clipmill").mkdir()  # as a checkout looks from the folder that it lies in
    (here / "clipmill_jobs").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "clipmill_jobs", *arguments],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    where = subprocess.run(
        [str(python), "-c", "import clipmill; print(clipmill.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ("environment" in where) == (request.param == "wheel")
    return run


@pytest.mark.cluster
def test_packages_in_the_working_directory_do_no_harm_to_workers(clipmill: Command) -> None:
    for arguments in (
        ("sample", "--output", "scenes", "--rows", "40", "--image-size", "32"),
        ("embed", "--input", "scenes", "--output", "embeddings", "--address", "local"),
        ("index", "--embeddings", "embeddings", "--output", "index", "--address", "local"),
        ("search", "--index", "index", "--text", "a star", "-k", "1"),
    ):
        done = clipmill(*arguments)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stdout + done.stderr
