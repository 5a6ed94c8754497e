"""k-recall@k against exact search, and its confidence interval."""

import math

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval

TIE = 2e-6
"""Scores this close are equal: float32 sums of the same products in another order differ by as much."""
_Z95 = 1.959964


def hits(scores: NDArray[np.float32], exact_scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each query, how many of the returned rows belong among the exact best k.

    A row belongs there when its exact score reaches the k-th best, so that of several rows with equal score each is
    as good as the other. ``scores`` (q, k) are the exact scores of what was returned, −inf where nothing was;
    ``exact_scores`` (q, k) are those of exact search, best first.
    """
    least = np.where(np.isfinite(exact_scores), exact_scores, np.inf).min(axis=1)
    result: NDArray[np.int64] = np.sum(scores >= (least - TIE)[:, None], axis=1)
    return result


def recall_interval(hits_per_query: NDArray[np.int64], k: int) -> Interval:
    """Mean of hits / k over queries, with its two-sided 95% interval.

    The interval is Wilson's (1927), for as many independent trials as have the variance seen between queries (Kish's
    effective sample size, 1965): hits of one query are not independent. Never fewer trials than queries, never more
    than queries · k. Without any variance seen, the number of queries counts.
    """
    queries = len(hits_per_query)
    if queries == 0:
        raise ValueError("no query was measured")
    rates = hits_per_query / k
    mean = float(rates.mean())
    variance = float(rates.var(ddof=1)) if queries > 1 else 0.0
    trials = float(queries)
    if variance > 0:
        trials = min(max(queries * mean * (1 - mean) / variance, queries), queries * k)
    spread = _Z95**2 / trials
    middle = (mean + spread / 2) / (1 + spread)
    reach = _Z95 * math.sqrt(mean * (1 - mean) / trials + spread / (4 * trials)) / (1 + spread)
    return Interval(
        value=mean, low=max(0.0, min(mean, middle - reach)), high=min(1.0, max(mean, middle + reach)), n=queries
    )
