"""k-recall@k against exact search, and its confidence interval."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import proportion_interval
from clipmill.core.manifests import Interval
from clipmill.index.search.exact import TopK


class Exact(Protocol):
    """What gives vectors as they were embedded."""

    def vectors_at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those (n, d) at some positions (n,)."""


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


def known_scores(
    truth: TopK, positions: NDArray[np.int64], queries: NDArray[np.float32], gallery: Exact | None
) -> NDArray[np.float32]:
    """The exact scores of what was found, where stored vectors do not tell them: ``truth`` are the results of exact search
    (q, k or more), ``positions`` (q, k) those that a search of ``queries`` (q, d) returned. What is not among the first is
    worse than the k-th best, −inf here, but where all of these score the same: then the ``gallery`` tells."""
    known = np.full(positions.shape, -np.inf, np.float32)
    for column in range(positions.shape[1]):
        same = (truth[1] == positions[:, column, None]) & (positions[:, column, None] >= 0)
        known[:, column] = np.where(same, truth[0], -np.inf).max(axis=1)
    if gallery is None:
        return known
    kth = min(positions.shape[1], truth[0].shape[1]) - 1
    tied = truth[0][:, -1] >= truth[0][:, kth] - TIE
    unknown = tied[:, None] & np.isneginf(known) & (positions >= 0)
    if unknown.any():
        asked = np.nonzero(unknown)[0]
        distinct, places = np.unique(positions[unknown], return_inverse=True)
        vectors = gallery.vectors_at(distinct)
        known[unknown] = np.einsum("nd,nd->n", queries[asked], vectors[places])
    return known


def recall_interval(hits_per_query: NDArray[np.int64], k: int) -> Interval:
    """Mean of hits / k over queries, with its two-sided 95% interval; hits of one query are not independent.

    Raises ValueError where there is no query.
    """
    return proportion_interval(hits_per_query / k, np.arange(len(hits_per_query)))
