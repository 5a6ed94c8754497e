"""Groups of near-duplicates: the rows that pairs connect, and which row of each is kept."""

import numpy as np
from numpy.typing import NDArray


def groups_of(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions that are in any pair, in order, and the number of the group of each; groups are numbered by their
    lowest position. Two rows are in one group when a chain of pairs leads from one to the other."""
    members, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = ends[: len(first)], ends[len(first) :]
    lowest = np.arange(len(members))
    while True:
        least = np.minimum(lowest[left], lowest[right])
        before = lowest.copy()
        np.minimum.at(lowest, lowest[left], least)
        np.minimum.at(lowest, lowest[right], least)
        while not np.array_equal(lowest, lowest[lowest]):
            lowest = lowest[lowest]
        if np.array_equal(before, lowest):
            return members, np.unique(lowest, return_inverse=True)[1].astype(np.int64)


def kept_of(groups: NDArray[np.int64], worth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which member of each group is kept: that of greatest ``worth`` (members,), of equals the first; NaN is least."""
    known = np.where(np.isnan(worth), -np.inf, worth)
    order = np.lexsort((np.arange(len(groups)), -known, groups))
    best = order[np.unique(groups[order], return_index=True)[1]]
    kept = np.zeros(len(groups), bool)
    kept[best] = True
    return kept
