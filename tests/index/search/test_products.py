"""Exact search by torch finds what FAISS finds, whatever the blocks and tiles: the device is the CPU, the code the same."""

import numpy as np
import pytest
import torch

from clipmill.core.errors import RunFailed
from clipmill.core.gpus import FAKE_GPUS
from clipmill.index.search import products
from clipmill.index.search.exact import TopK, exact_top_k

DEVICE = torch.device("cpu")


def searched(queries: np.ndarray, vectors: np.ndarray, k: int, block: int, device: torch.device | None) -> TopK:
    blocks = [(start, vectors[start : start + block]) for start in range(0, len(vectors), block)]
    return exact_top_k(queries, blocks, k, device)


def drawn(n: int, queries: int, dimension: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    asked = rng.standard_normal((queries, dimension)).astype(np.float32)
    return asked, rng.standard_normal((n, dimension)).astype(np.float16)


@pytest.mark.parametrize(
    ("n", "k", "block"), [(1000, 10, 130), (1000, 10, 1000), (1000, 10, 7), (3, 5, 2), (40, 40, 9)]
)
@pytest.mark.parametrize("tile_bytes", [1 << 28, 4000, 1])
def test_the_best_are_those_of_faiss_and_of_brute_force(
    n: int, k: int, block: int, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "TILE_BYTES", tile_bytes)
    queries, vectors = drawn(n, 37)
    scores, positions = searched(queries, vectors, k, block, DEVICE)
    by_faiss = searched(queries, vectors, k, block, None)
    whole = queries.astype(np.float64) @ vectors.astype(np.float64).T
    there = min(k, n)
    assert (positions[:, :there] == np.argsort(-whole, axis=1)[:, :there]).all()
    assert (positions == by_faiss[1]).all()
    np.testing.assert_allclose(scores, by_faiss[0], rtol=1e-5, atol=1e-5)
    assert (scores.dtype, positions.dtype) == (np.float32, np.int64)


def test_without_queries_or_vectors_nothing_is_found() -> None:
    queries, vectors = drawn(20, 4)
    assert [part.shape for part in searched(queries[:0], vectors, 3, 10, DEVICE)] == [(0, 3), (0, 3)]
    scores, positions = searched(queries, vectors[:0], 3, 10, DEVICE)
    assert np.isneginf(scores).all()
    assert (positions == -1).all()


def test_of_equal_scores_the_lower_position_comes_first() -> None:
    queries, vectors = drawn(60, 5)
    vectors[[11, 25, 44]] = vectors[3] = (4 * queries[0]).astype(np.float16)
    for block in (60, 8):
        scores, positions = searched(queries, vectors, 10, block, DEVICE)
        assert positions[0, :4].tolist() == [3, 11, 25, 44]
        assert len(set(scores[0, :4].tolist())) == 1
        np.testing.assert_allclose(scores, searched(queries, vectors, 10, block, None)[0], rtol=1e-5)


def test_products_are_in_float32_whatever_the_process_multiplies_in() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        queries, vectors = drawn(100, 9)
        expected = searched(queries, vectors, 5, 100, None)
        np.testing.assert_allclose(searched(queries, vectors, 5, 100, DEVICE)[0], expected[0], rtol=1e-5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_cores_compute_unless_a_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAKE_GPUS, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunFailed, match=r"finds no CUDA .*580.*--products cpu"):
        products.device_for("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert products.device_for("auto") is products.device_for("cpu") is None
    assert products.device_for("gpu") == torch.device("cuda")
