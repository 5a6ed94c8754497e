"""Reports of two models over the same captions and images."""

from collections.abc import Callable

import pytest

from captioned import identity
from reported import make_report
from two_models import IMAGES, PATHS, ROWS, captions_with


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Makes a report of these vectors with noise added to the captions, and of other options of the dataset."""

    def make(noise: float = 0.0, **options: object) -> str:
        folder = tmp_path_factory.mktemp("report")
        dataset = {
            "images": IMAGES,
            "captions": captions_with(noise),
            "caption_rows": ROWS,
            "labels": ["abc"[number % 3] for number in range(120)],
            "model": identity(16),
            "paths": PATHS,
            **options,
        }
        make_report(folder, **dataset)
        return str(folder / "r")

    return make


@pytest.fixture(scope="session")
def good(report: Callable[..., str]) -> str:
    return report()


@pytest.fixture(scope="session")
def bad(report: Callable[..., str]) -> str:
    return report(noise=2.0)
