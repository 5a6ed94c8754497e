"""Whole datasets, made once; every test corrupts a copy of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmill.core.reporter import Silent
from clipmill.verification.dataset import verify
from clipmill.verification.findings import Findings
from wholesome import write_whole_embeddings, write_whole_index, write_whole_report


@pytest.fixture(scope="session")
def check() -> Callable[..., Findings]:
    """Verifies a dataset without a progress line."""

    def run(place: Path | str, *, quick: bool = False) -> Findings:
        return verify(str(place), quick=quick, reporter=Silent())

    return run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `source`, `embeddings`, `index`, `captions_index` and `report`, all whole. Nobody changes it."""
    folder = tmp_path_factory.mktemp("whole")
    embeddings = write_whole_embeddings(folder)
    index = write_whole_index(embeddings, folder / "index")
    write_whole_index(embeddings, folder / "captions_index", gallery="captions", factory="Flat", shards=2)
    write_whole_report(embeddings, index, folder / "report")
    return folder


@pytest.fixture
def embeddings(whole: Path, tmp_path: Path) -> Path:
    return _copy(whole / "embeddings", tmp_path)


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    return _copy(whole / "index", tmp_path)


@pytest.fixture
def report(whole: Path, tmp_path: Path) -> Path:
    return _copy(whole / "report", tmp_path)


def _copy(source: Path, folder: Path) -> Path:
    target = folder / source.name
    shutil.copytree(source, target)
    return target


@pytest.fixture
def told() -> Callable[[Findings, str], None]:
    """Asserts that a fault holds all these words."""

    def require(findings: Findings, *words: str) -> None:
        assert not findings.whole
        assert any(all(word in fault for word in words) for fault in findings.faults), json.dumps(findings.faults)

    return require
