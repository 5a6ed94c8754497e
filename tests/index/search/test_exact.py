"""Exact search is exact, whatever the blocks it streams."""

import numpy as np

from clipmill.index.search.exact import best_of, exact_top_k


def brute_force(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def test_streamed_blocks_give_the_brute_force_result() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1000, 24)).astype(np.float16)
    queries = rng.standard_normal((37, 24)).astype(np.float32)
    blocks = [(start, vectors[start : start + 130]) for start in range(0, 1000, 130)]
    scores, positions = exact_top_k(queries, blocks, 10)
    expected_scores, expected = brute_force(queries, vectors, 10)
    assert (positions == expected).all()
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_fewer_vectors_than_k_are_padded() -> None:
    vectors = np.eye(3, dtype=np.float16)
    scores, positions = exact_top_k(np.eye(3, dtype=np.float32)[:1], [(0, vectors[:2]), (2, vectors[2:])], 5)
    assert positions.tolist() == [[0, 1, 2, -1, -1]]
    assert scores[0, 0] == 1
    assert np.isneginf(scores[0, 3:]).all()


def test_of_equal_scores_the_lower_position_comes_first_however_many_there_are() -> None:
    rng = np.random.default_rng(1)
    for width in (5, 12, 300):
        scores = rng.integers(0, 4, (50, width)).astype(np.float32)
        positions = np.stack([rng.permutation(width) for _ in range(50)])
        found_scores, found = best_of(scores, positions, 5)
        for row in range(50):
            expected = sorted(zip(-scores[row], positions[row], strict=True))[:5]
            assert [(-score, position) for score, position in zip(found_scores[row], found[row], strict=True)] == [
                (score, position) for score, position in expected
            ]
