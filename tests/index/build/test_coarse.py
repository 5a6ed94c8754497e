"""Coarse centroids by torch are those of k-means, and an index trained with them is as good as one of FAISS alone."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build import coarse
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.coarse import cluster
from clipmill.index.build.train import train_index
from clipmill.index.search import products
from clustered import image_and_caption_vectors, unit
from indexing import make_here

DEVICE = torch.device("cpu")


def lloyd(vectors: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Spherical k-means in float64 of clusters of which none is ever empty."""
    for _ in range(iterations):
        belong = (vectors @ centroids.T).argmax(axis=1)
        centroids = unit(np.stack([vectors[belong == number].mean(axis=0) for number in range(len(centroids))]))
    return centroids


@pytest.fixture
def vectors() -> np.ndarray:
    return image_and_caption_vectors(3000, 1, 32, seed=5)[0].astype(np.float32)


@pytest.mark.parametrize(("tile_bytes", "block_rows"), [(1 << 28, 65_536), (5000, 700)])
def test_centroids_are_those_of_k_means_by_brute_force_and_by_faiss(
    vectors: np.ndarray, tile_bytes: int, block_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(coarse, "_BLOCK_ROWS", block_rows)
    start = vectors[:20]
    found = cluster(vectors, start, 4, DEVICE, spherical=True)
    np.testing.assert_allclose(found, lloyd(vectors.astype(np.float64), unit(start.astype(np.float64)), 4), atol=1e-4)
    by_faiss = faiss.Kmeans(32, 20, niter=4, spherical=True, max_points_per_centroid=10_000)
    by_faiss.train(vectors, init_centroids=unit(start))
    np.testing.assert_allclose(found, by_faiss.centroids, atol=1e-4)


def test_a_centroid_that_none_belongs_to_takes_from_the_largest(vectors: np.ndarray) -> None:
    start = np.concatenate([vectors[:4], -vectors[:4]])  # all vectors lie on one side of the origin
    found = cluster(vectors, start, 10, DEVICE, spherical=True)
    assert np.bincount((vectors @ found.T).argmax(axis=1), minlength=8).min() > 0
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_vectors_that_are_all_the_same_leave_centroids_finite() -> None:
    found = cluster(
        np.tile(np.eye(1, 8, dtype=np.float32), (50, 1)), np.eye(5, 8, dtype=np.float32), 3, DEVICE, spherical=True
    )
    assert np.isfinite(found).all()


@pytest.mark.parametrize("factory", ["IVF32,PQ16x4fsr", "PCAR16,IVF32,Flat", "IVF32,SQ8"])
def test_an_index_finds_as_much_as_one_that_faiss_trained_alone(vectors: np.ndarray, factory: str) -> None:
    queries = vectors[::30] + 0.05 * np.random.default_rng(0).standard_normal((100, 32)).astype(np.float32)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    recall = []
    for device in (None, DEVICE):
        index = train_index(factory, 32, vectors, seed=0, device=device)
        assert faiss.extract_index_ivf(index).quantizer.ntotal == 32
        index.add(vectors)
        faiss.extract_index_ivf(index).nprobe = 8
        found = index.search(queries, 20)[1]
        recall.append(np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]))
    assert recall[1] == pytest.approx(recall[0], abs=0.03)


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "OPQ8,IVF16,PQ8x4fs", "IVF16_HNSW8,Flat"])
def test_what_torch_does_not_train_faiss_does(vectors: np.ndarray, factory: str) -> None:
    assert train_index(factory, 32, vectors, seed=0, device=DEVICE).is_trained


def made(dataset: Embeddings, output: Path, how: str) -> Build:
    return make_build(
        IndexSettings(
            embeddings=dataset.location.uri,
            output=str(output),
            factory="IVF8,PQ4x4fsr",
            shards=2,
            tuning_queries=40,
            products=how,
        )
    )


def test_a_build_on_a_gpu_has_the_truth_and_the_record_of_one_on_cores(
    clustered_embeddings: Callable[..., Embeddings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAKE_GPUS, "1")
    asked = []
    monkeypatch.setattr("clipmill.index.search.products.top_k", lambda *given: asked.append(1) or top_k(*given))
    dataset = clustered_embeddings(900, 120, row_group_size=200)
    manifests = []
    for how in ("cpu", "gpu"):
        build = made(dataset, tmp_path / how, how)
        manifests.append(make_here(build).manifest)
        assert bool(asked) == (how == "gpu")
    one, other = manifests
    assert one.configuration == other.configuration
    assert made(dataset, tmp_path / "cpu", "gpu").finished() is not None
    assert other.operating_point.recall.value == pytest.approx(one.operating_point.recall.value, abs=0.05)


top_k = products.top_k
