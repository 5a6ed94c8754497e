"""1 / rank of the first positive, in expectation over the order of items that tie, in closed form."""

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.ranks import Ranks

_STEPS = 1000
"""Steps of the recurrence from above that are taken before the one from below is considered."""
_POSITIVES = 64
"""Tied positives up to which the recurrence from below is stable where the other takes many steps."""
_ACCURACY = 40.0
"""exp(−40) is below the rounding of float64."""


def reciprocal_rank(ranks: Ranks) -> NDArray[np.float64]:
    """For each query E[1 / place of the first positive]: float64 (q,), trec_eval's recip_rank where nothing ties.

    With one positive it equals the average precision. It is at least 1 / E[place].
    """
    keys = np.column_stack([ranks.higher, ranks.tied, ranks.tied_positives])
    cases, case_of = np.unique(keys, axis=0, return_inverse=True)
    result: NDArray[np.float64] = _expected(*cases.T)[case_of.reshape(-1)]
    return result


def harmonic(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 + 1/2 + … + 1/n: summed up to 32, then by the Euler-Maclaurin series, which is right to 10⁻¹⁶ from there on."""
    small = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 33))])
    large = np.maximum(n, 32).astype(np.float64)
    series = np.log(large) + np.euler_gamma + 1 / (2 * large) - 1 / (12 * large**2) + 1 / (120 * large**4)
    return np.where(n <= 32, small[np.minimum(n, 32)], series - 1 / (252 * large**6))


def _expected(higher: NDArray[np.int64], tied: NDArray[np.int64], positives: NDArray[np.int64]) -> NDArray[np.float64]:
    """E[1 / (h + J)], J the first place of p positives among N = p + ``tied`` items, in random order: (c,).

    P(J = j) = C(N − j, p − 1) / C(N, p). As (p − 1) C(N − j, p − 1) = (N − p + 2 − j) C(N − j, p − 2), the values E(p) for
    the same N and h follow from each other: (p − 1)(N − p + 1) / p · E(p) = (N + h − p + 2) E(p − 1) − 1, between
    E(1) = (H(h + N) − H(h)) / N and E(N) = 1 / (h + 1).
    """
    items = tied + positives
    # From above every step divides the error, by (N + h) / N at least; from below it multiplies it.
    steps = np.minimum(tied, np.ceil(_ACCURACY * (items + higher) / np.maximum(higher, 1)).astype(np.int64))
    below = (steps > _STEPS) & (positives <= _POSITIVES)
    found = np.empty(len(items))
    found[below] = _from_below(higher[below], items[below], positives[below])
    found[~below] = _from_above(higher[~below], items[~below], positives[~below], steps[~below])
    return found


def _from_below(
    higher: NDArray[np.int64], items: NDArray[np.int64], positives: NDArray[np.int64]
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (harmonic(higher + items) - harmonic(higher)) / items
    for p in range(2, int(positives.max(initial=1)) + 1):
        at = np.flatnonzero(positives >= p)
        n, h = items[at], higher[at]
        found[at] = p / ((p - 1) * (n - p + 1)) * ((n + h - p + 2) * found[at] - 1)
    return found


def _from_above(
    higher: NDArray[np.int64], items: NDArray[np.int64], positives: NDArray[np.int64], steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    start = positives + steps
    # 1 / E[place] is exact at p = N, and elsewhere its error is gone after the steps.
    found = 1 / (higher + (items + 1) / (start + 1))
    for step in range(int(steps.max(initial=0))):
        at = np.flatnonzero(steps > step)
        n, h, p = items[at], higher[at], start[at] - step
        found[at] = (1 + (p - 1) * (n - p + 1) / p * found[at]) / (n + h - p + 2)
    return found
