"""Fixtures of several rooms."""

import signal
from collections.abc import Callable, Iterator

import pytest

from browsing import CHROMIUM
from clipmill.core.settings import IndexSettings
from clipmill.core.startup import prepare_process
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import make_build
from clipmill.index.search.search import Index
from clustered import image_and_caption_vectors, write_embeddings
from indexing import build_here

prepare_process()

# A shell that runs tests in the background has them, and every command that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clustered_embeddings(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Embeddings]:
    """Makes an embeddings dataset of so many clustered image vectors and captions, and opens it."""

    def make(images: int, captions: int, dimension: int = 16, seed: int = 0, **options: object) -> Embeddings:
        folder = tmp_path_factory.mktemp("embeddings")
        vectors = image_and_caption_vectors(images, captions, dimension, seed)
        return Embeddings.open(str(write_embeddings(folder, *vectors, **options)))

    return make


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Index]:
    """Indexes a dataset with these settings, in this process."""

    def index(dataset: Embeddings, **settings: object) -> Index:
        output = tmp_path_factory.mktemp("index") / "index"
        values = {"embeddings": dataset.location.uri, "output": str(output), "tuning_queries": 200, **settings}
        return build_here(make_build(IndexSettings.model_validate(values)))

    return index


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Closed at the end of each file: while it is open, nothing else of this process can run an event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no browser is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
