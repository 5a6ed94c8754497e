"""Small scenes to learn from."""

from pathlib import Path

import pytest

from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.scenes.dataset import write_scenes


def _sample(folder: Path, rows: int, split: str) -> str:
    write_scenes(SampleSettings(output=str(folder), rows=rows, split=split, image_size=64), Silent())
    return str(folder)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of 96 training scenes."""
    return _sample(tmp_path_factory.mktemp("data") / "train", 96, "train")


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of 24 held-out scenes."""
    return _sample(tmp_path_factory.mktemp("data") / "held-out", 24, "held-out")
