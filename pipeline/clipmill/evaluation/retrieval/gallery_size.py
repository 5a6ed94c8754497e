"""How recall depends on the size of the gallery: the expectation over random smaller galleries, from the ranks in the
whole one.

A smaller gallery holds the query's positives and others drawn at random, without replacement, from the rest. How many of
those that stand before the first positive are drawn is hypergeometric, so R@K follows without drawing anything.
"""

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.ranks import Ranks

_SINGLE_STEPS, _WIDE_STEPS = 32, 96
"""Counts of tied items before the first positive: the first 32 one by one, the rest in 96 steps of equal ratio."""


def gallery_sizes(whole: int) -> tuple[int, ...]:
    """10, 100, 1,000 … and the whole gallery."""
    powers = [10**power for power in range(1, 16) if 10**power < whole]
    return (*powers, whole)


def recall_in_gallery(ranks: Ranks, size: int, k: int) -> NDArray[np.float64]:
    """For each query the probability that a positive is among the first ``k`` of a random gallery of ``size``: (q,).

    The gallery has all p positives of the query and size − p of its n − p other items, every choice equally likely; where
    size ≤ p it has the positives only. Of the b others before the first positive fewer than k must be drawn: the sum over
    j < k of C(b, j) · C(n − p − b, size − p − j) / C(n − p, size − p). Where items tie with the best positive, b is
    random; of more than 32 that tie, values of b are grouped and taken at their middles, to within .005 of R@K.
    """
    # Queries with the same counts have the same probability.
    keys = np.column_stack([ranks.higher, ranks.tied, ranks.tied_positives, ranks.positives])
    cases, case_of = np.unique(keys, axis=0, return_inverse=True)
    higher, tied, tied_positives, positives = cases.T
    logs = log_factorials(ranks.gallery)
    others, drawn = ranks.gallery - positives, np.maximum(size - positives, 0)
    # Sum over how many tied items come before the first positive: how likely that is, times the sum above.
    found = np.zeros(len(cases))
    begin, step = np.zeros(len(cases), np.int64), 0
    while np.any(begin <= tied):
        step += 1
        end = _step_end(step, tied + 1)
        likely = _none_before(tied, tied_positives, begin) - _none_before(tied, tied_positives, end)
        before = higher + np.minimum((begin + end - 1) // 2, tied)
        found += likely * _fewer_drawn(before, others, drawn, k, logs)
        begin = end
    return found[case_of.reshape(-1)]


def _step_end(step: int, whole: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the ``step``-th step of counts from 0 ends, at most at ``whole``."""
    if step <= _SINGLE_STEPS:
        return np.minimum(step, whole)
    share = (step - _SINGLE_STEPS) / _WIDE_STEPS
    wide = np.maximum(whole / _SINGLE_STEPS, 1.0)
    return np.where(share >= 1, whole, np.minimum(_SINGLE_STEPS * wide**share, whole)).astype(np.int64)


def log_factorials(n: int) -> NDArray[np.float64]:
    """log(0!) … log(n!), summed in extended precision."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.longdouble)))]).astype(np.float64)


def _none_before(
    tied: NDArray[np.int64], positives: NDArray[np.int64], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probability that at least ``count`` tied items stand before the first of the ``positives`` that tie with them."""
    likely = np.ones(len(tied))
    for number in range(int(positives.max(initial=0))):
        rest = np.maximum(tied + positives - count - number, 0) / np.maximum(tied + positives - number, 1)
        likely *= np.where(number < positives, rest, 1.0)
    return likely


def _fewer_drawn(
    marked: NDArray[np.int64], items: NDArray[np.int64], drawn: NDArray[np.int64], k: int, logs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability that fewer than ``k`` of the ``marked`` are among ``drawn`` of ``items``: hypergeometric."""
    found = np.zeros(len(marked))
    whole = _log_choose(items, drawn, logs)
    for count in range(k):
        possible = (count <= marked) & (count <= drawn) & (drawn - count <= items - marked)
        rest = np.where(possible, drawn - count, 0)
        chosen = np.where(possible, count, 0)
        log = _log_choose(marked, chosen, logs) + _log_choose(items - marked, rest, logs) - whole
        found += np.where(possible, np.exp(np.where(possible, log, 0.0)), 0.0)
    return np.minimum(found, 1.0)


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64], logs: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = logs[n] - logs[k] - logs[n - k]
    return result
