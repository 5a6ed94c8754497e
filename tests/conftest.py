"""Fixtures of several rooms."""

from collections.abc import Callable

import pytest
from clustered import image_and_caption_vectors, write_embeddings

from pipeline.datasets import Embeddings


@pytest.fixture(scope="session")
def clustered_embeddings(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Embeddings]:
    """Makes an embeddings dataset of so many clustered image vectors and captions, and opens it."""

    def make(images: int, captions: int, dimension: int = 16, seed: int = 0, **options: object) -> Embeddings:
        folder = tmp_path_factory.mktemp("embeddings")
        vectors = image_and_caption_vectors(images, captions, dimension, seed)
        return Embeddings.open(str(write_embeddings(folder, *vectors, **options)))

    return make
