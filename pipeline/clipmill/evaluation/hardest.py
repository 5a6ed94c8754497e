"""Which queries a report lists: the hardest of every group, and some drawn at random."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.outcomes import Outcomes

LISTED = 240
"""Queries of a task that are listed at most."""


def hardest(
    outcome: Outcomes, groupings: Sequence[NDArray[np.int64]], seed: int = 0, most: int = LISTED
) -> NDArray[np.int64]:
    """Numbers (at most ``most``,) of queries of a task in rising order. A half is drawn at random; the other is shared out
    among the ``groupings`` (queries,), of which each gives in turn the hardest of every group. Without groupings it is the
    hardest of all."""
    count = len(outcome)
    if count <= most:
        return np.arange(count)
    place = outcome.rank if outcome.rank is not None else 1 - outcome.hits[1]
    worst = np.argsort(-place, kind="stable")
    chosen = set(np.random.default_rng(seed).choice(count, most // 2, replace=False).tolist())
    turns = [_in_turn(group[worst]) for group in groupings] or [np.arange(count)]
    for number, turn in enumerate(turns, start=1):
        full = most // 2 + (most - most // 2) * number // len(turns)
        for at in turn:
            if len(chosen) >= full:
                break
            chosen.add(int(worst[at]))
    return np.array(sorted(chosen), np.int64)


def _in_turn(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order (n,) that takes the first of every group, then the second of every group, and so on."""
    by_group = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[by_group], prepend=groups[by_group[0]] - 1))
    within = np.empty(len(groups), np.int64)
    within[by_group] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
    return np.argsort(within, kind="stable")
