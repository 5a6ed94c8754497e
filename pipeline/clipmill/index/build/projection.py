"""A projection for the scores of queries with vectors, which lie elsewhere: each side is turned into the same few directions.

Principal directions of images keep what images differ by; what texts ask for lies partly in others. Of all pairs of matrices
A, B with r rows, those below lose least of the scores: the mean of (q·x − Aq·Bx)² over queries q and vectors x is
‖Kq^½ (1 − AᵀB) Kx^½‖² for their second moments Kq and Kx, which is least where Kq^½ AᵀB Kx^½ holds the r greatest singular
values of Kq^½ Kx^½ (LeanVec-OOD, Tepper et al. 2023, has the same goal). A random rotation, the same for both sides, then
spreads what is left evenly over the codes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

LEAST_QUERIES = 256
"""With so many queries to learn from, what others find is within .006 of what is found after learning from 20,000 (recall at
equal effort, 200,000 vectors of 512 dimensions)."""
VECTORS_SHARE = 0.3
"""Of the moments of queries, so much is taken from the vectors themselves: people search by a picture too, and without this
a third of what a picture should find is lost, where texts gain .005."""
_LEAST_VARIANCE = 0.01
"""Of the mean variance of a direction, added to every one: those in which samples hardly vary are not blown up."""
_MOMENT_ROWS = 50_000
"""Vectors that second moments are taken of: a hundred for each of 512 components."""
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Projection:
    """One matrix (r, d) float32 a side: ``queries`` @ q · ``vectors`` @ x is nearly q · x."""

    queries: NDArray[np.float32]
    vectors: NDArray[np.float32]


def query_aware(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], directions: int, seed: int
) -> Projection | None:
    """The projection to ``directions`` learned from a sample of queries (q, d) and one of vectors (n, d); the same for the same
    seed. Vectors have a mean square of 1 after it. None where there are too few of either to learn from."""
    if len(queries) < LEAST_QUERIES or len(vectors) < vectors.shape[1]:
        return None
    of_vectors = second_moments(vectors)
    of_queries = second_moments(queries)
    mixed = (1 - VECTORS_SHARE) * of_queries / np.trace(of_queries) + VECTORS_SHARE * of_vectors / np.trace(of_vectors)
    query_root, query_inverse = _roots(mixed)
    vector_root, vector_inverse = _roots(of_vectors)
    left, values, right = np.linalg.svd(query_root @ vector_root)
    kept = values[:directions]
    turned = rotation(directions, seed) * np.sqrt(kept)
    length = np.sqrt(kept.sum())
    return Projection(
        queries=(length * turned @ left[:, :directions].T @ query_inverse).astype(np.float32),
        vectors=(turned @ right[:directions] @ vector_inverse / length).astype(np.float32),
    )


def rotation(directions: int, seed: int) -> Matrix:
    """A random rotation (r, r)."""
    rows: Matrix = np.linalg.qr(np.random.default_rng(seed).standard_normal((directions, directions)))[0]
    return rows


def second_moments(vectors: NDArray[np.floating]) -> Matrix:
    """Mean products (d, d) of the components of some vectors (n, d), at most _MOMENT_ROWS of them, block by block: their
    float64 copies are large."""
    few = vectors[:: max(1, len(vectors) // _MOMENT_ROWS)]
    moments = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(few), _BLOCK_ROWS):
        block = few[start : start + _BLOCK_ROWS].astype(np.float64)
        moments += block.T @ block
    return moments / max(1, len(few))


def _roots(moments: Matrix) -> tuple[Matrix, Matrix]:
    """The symmetric square root of some second moments, and its inverse."""
    variances, axes = np.linalg.eigh(moments)
    variances = np.maximum(variances, 0) + _LEAST_VARIANCE * variances.mean()
    return (axes * np.sqrt(variances)) @ axes.T, (axes / np.sqrt(variances)) @ axes.T
