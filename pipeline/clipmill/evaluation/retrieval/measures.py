"""Measures over all positives of a query, from their ranks: share found, nDCG and average precision.

Relevance is binary. Items that tie stand in random order, and each measure is its exact expectation over that order, in
closed form (McSherry and Najork 2008); where nothing ties it is what ``trec_eval`` computes.
"""

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.ranks import Ranks


def share_found(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """For each query the share of its positives among the first ``k`` (trec_eval's recall_k)."""
    places = np.clip(k - ranks.level_higher, 0, ranks.level_items)
    return ranks.sum_levels(ranks.level_positives * places / ranks.level_items) / ranks.positives


def ndcg(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """For each query the discounted cumulative gain of the first ``k`` over that of a perfect order.

    A positive at place r gains 1 / log₂(1 + r) (Järvelin and Kekäläinen 2002; trec_eval's ndcg_cut_k).
    """
    gained = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    first = np.minimum(ranks.level_higher, k)
    last = np.minimum(ranks.level_higher + ranks.level_items, k)
    gain = ranks.sum_levels(ranks.level_positives * (gained[last] - gained[first]) / ranks.level_items)
    return gain / gained[np.minimum(ranks.positives, k)]


def average_precision(ranks: Ranks) -> NDArray[np.float64]:
    """For each query the mean over its positives of the share of positives among the items up to it (trec_eval's map)."""
    higher, items, positives = ranks.level_higher, ranks.level_items, ranks.level_positives
    total = np.cumsum(positives)
    before = total - positives - np.repeat((total - positives)[ranks.starts], ranks.levels)
    # A place among tied items holds a positive with probability positives / items; each earlier one then with `others`.
    others = (positives - 1) / np.maximum(items - 1, 1)
    reciprocals = 1 / (higher + 1.0)
    several = np.flatnonzero(items > 1)
    reciprocals[several] = _harmonic(higher[several] + items[several]) - _harmonic(higher[several])
    precision = others * items + (before + 1 - others * (higher + 1)) * reciprocals
    return ranks.sum_levels(positives / items * precision) / ranks.positives


def _harmonic(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 + 1/2 + … + 1/n: summed where n is small, else Euler and Maclaurin's series, right to 10⁻¹⁶ from n = 32 on."""
    small = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 33))])
    large = np.maximum(n, 32).astype(np.float64)
    series = np.log(large) + np.euler_gamma + 1 / (2 * large) - 1 / (12 * large**2) + 1 / (120 * large**4)
    return np.where(n <= 32, small[np.minimum(n, 32)], series - 1 / (252 * large**6))
