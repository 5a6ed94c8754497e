"""k-recall@k against exact search, and its confidence interval."""

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import proportion_interval
from clipmill.core.manifests import Interval
from clipmill.index.search.exact import TopK

TIE = 2e-6
"""Scores this close are equal: float32 sums of the same products in another order differ by as much."""


def hits(scores: NDArray[np.float32], exact_scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each query, how many of the returned rows belong among the exact best k.

    A row belongs there when its exact score reaches the k-th best, so that of several rows with equal score each is
    as good as the other. ``scores`` (q, k) are the exact scores of what was returned, −inf where nothing was;
    ``exact_scores`` (q, k) are those of exact search, best first.
    """
    least = np.where(np.isfinite(exact_scores), exact_scores, np.inf).min(axis=1)
    result: NDArray[np.int64] = np.sum(scores >= (least - TIE)[:, None], axis=1)
    return result


def known_scores(truth: TopK, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """The exact scores of what was found, as far as exact search found it too: ``truth`` are its results (q, more than k),
    ``positions`` (q, k) those that a search returned. −inf where it has others."""
    known = np.full(positions.shape, -np.inf, np.float32)
    for column in range(positions.shape[1]):
        same = (truth[1] == positions[:, column, None]) & (positions[:, column, None] >= 0)
        known[:, column] = np.where(same, truth[0], -np.inf).max(axis=1)
    return known


def recall_interval(hits_per_query: NDArray[np.int64], k: int) -> Interval:
    """Mean of hits / k over queries, with its two-sided 95% interval; hits of one query are not independent.

    Raises ValueError where there is no query.
    """
    return proportion_interval(hits_per_query / k, np.arange(len(hits_per_query)))
