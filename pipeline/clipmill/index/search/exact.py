"""Exact search by streaming: the best k of a gallery of any size for each query, in memory bounded by one block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.search import products

if TYPE_CHECKING:
    import torch

TopK = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores (q, k) in falling order and their positions (q, k); −inf and −1 where there are fewer than k."""


def empty_top_k(queries: int, k: int) -> TopK:
    """Results of nothing found yet: scores (queries, k) float32 of −inf, positions int64 of −1."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def merge_top_k(one: TopK, other: TopK, k: int) -> TopK:
    """The best ``k`` of two results; on equal scores the lower position comes first."""
    scores = np.concatenate([one[0], other[0]], axis=1)
    positions = np.concatenate([one[1], other[1]], axis=1)
    return best_of(scores, positions, k)


def cut(scores: NDArray[np.float32], positions: NDArray[np.int64], k: int) -> TopK:
    """The ``k`` best columns of each row in any order; which of equal scores at the edge is not said."""
    if scores.shape[1] <= k:
        return scores, positions
    chosen = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(scores, chosen, axis=1), np.take_along_axis(positions, chosen, axis=1)


def best_of(scores: NDArray[np.float32], positions: NDArray[np.int64], k: int) -> TopK:
    """The ``k`` best columns of each row, best first; on equal scores the lower position comes first."""
    if len(scores) and scores.shape[1] > 2 * k:
        least = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k, None]
        most_kept = int((scores >= least).sum(axis=1).max())
        scores, positions = cut(scores, positions, most_kept)
    order = np.lexsort((positions, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)


def ordered(scores: NDArray[np.float32], positions: NDArray[np.int64]) -> TopK:
    """What FAISS found, best first, as results are given: −inf where there is none, and of equal scores the lower position
    first. Changes ``scores``."""
    missing = positions < 0
    if missing.any():
        scores[missing] = -np.inf
    if (scores[:, 1:] == scores[:, :-1]).any():  # seldom; sorting takes as long as the rest of a search
        return best_of(scores, positions, scores.shape[1])
    return scores, positions


def best_of_all(parts: Sequence[TopK], k: int) -> TopK:
    """The best ``k`` of what was found in several places for the same queries."""
    scores, positions = (np.concatenate([part[side] for part in parts], axis=1) for side in (0, 1))
    return padded(*best_of(scores, positions, k), k)


def stacked(blocks: Sequence[TopK], k: int) -> TopK:
    """What was found for one block of queries after the other."""
    if not blocks:
        return empty_top_k(0, k)
    return np.concatenate([scores for scores, _ in blocks]), np.concatenate([found for _, found in blocks])


def padded(scores: NDArray[np.float32], positions: NDArray[np.int64], k: int) -> TopK:
    """The same results in ``k`` columns, −inf and −1 in those that are missing."""
    if scores.shape[1] == k:
        return scores, positions
    missing = ((0, 0), (0, k - scores.shape[1]))
    return np.pad(scores, missing, constant_values=-np.inf), np.pad(positions, missing, constant_values=-1)


def without_own(found: TopK, own: NDArray[np.int64] | None, k: int) -> TopK:
    """The first ``k`` results of each query without the query itself, which is at position ``own`` (q,) of the gallery; None:
    the queries are none of its vectors. Another vector that is the same stays."""
    scores, positions = found
    if own is None:
        return scores[:, :k], positions[:, :k]
    kept = np.argsort(positions == own[:, None], axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, kept, axis=1), np.take_along_axis(positions, kept, axis=1)


def exact_top_k(
    queries: NDArray[np.float32],
    blocks: Iterable[tuple[int, NDArray[np.floating]]],
    k: int,
    device: torch.device | None = None,
) -> TopK:
    """Exact inner-product search.

    ``blocks`` yields the position of a block's first vector and its vectors (rows, d). Threads are those of FAISS; with a
    ``device``, torch computes there.
    """
    best = empty_top_k(len(queries), k)
    for start, vectors in blocks:
        scores, positions = _best_of_block(queries, vectors, min(k, len(vectors)), device)
        best = merge_top_k(best, (scores, positions + start), k)
    return best


def _best_of_block(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, device: torch.device | None
) -> TopK:
    if device is not None:
        return products.top_k(queries, vectors, k, device)
    scores, positions = faiss.knn(queries, np.asarray(vectors, np.float32), k, metric=faiss.METRIC_INNER_PRODUCT)
    return scores, positions
