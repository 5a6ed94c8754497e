"""How wide groups are: the cosine of the two rows of a group that are least alike.

Where every two rows of a group are a pair, it is the least cosine of these. Other groups have rows that only a chain connects,
and their vectors are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.curate.near import Pairs, unit

EXACT_MEMBERS = 16_384
"""Rows of the largest group of which every two are compared, in a few seconds. Of larger ones a bound is told."""
BATCH_ROWS = 1 << 20
"""Rows of groups whose vectors are in memory at a time: a gigabyte at 512 dimensions."""
_BLOCK = 1024


@dataclass(frozen=True)
class Groups:
    """``members`` are the positions of rows (m,) in rising order, ``numbers`` their groups, from 0 on without a gap. Both are
    int64."""

    members: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each group."""
        return np.bincount(self.numbers)


@dataclass(frozen=True)
class Width:
    """The least cosine of some ``groups`` (g,): int64 and float32."""

    groups: NDArray[np.int64]
    least: NDArray[np.float32]


def widths_by_pairs(groups: Groups, pairs: Pairs) -> Width:
    """Of the groups in which every two rows are a pair."""
    count = len(groups.sizes) if len(groups.members) else 0
    first, second = (_group_of(groups, positions) for positions in (pairs.first, pairs.second))
    inside = (first == second) & (first >= 0)
    least = np.ones(count, np.float32)
    np.minimum.at(least, first[inside], pairs.cosine[inside])
    listed = np.bincount(first[inside], minlength=count)
    sizes = groups.sizes if count else np.empty(0, np.int64)
    whole = np.flatnonzero(listed == sizes * (sizes - 1) // 2)
    return Width(whole, least[whole])


def batches_of(groups: Groups, wanted: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Groups (w,), in runs that have `BATCH_ROWS` rows at most, or of one group that has more."""
    if not len(wanted):
        return []
    before = np.cumsum(groups.sizes[wanted]) - groups.sizes[wanted]
    return np.split(wanted, np.flatnonzero(np.diff(before // BATCH_ROWS)) + 1)


def widths_by_vectors(numbers: NDArray[np.int64], stored: NDArray[np.float16]) -> Width:
    """Of groups whose rows have these ``numbers`` (m,) and vectors (m, d)."""
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    least = [least_cosine(stored[rows]) for rows in np.split(order, starts[1:])]
    return Width(found, np.array(least, np.float32))


def least_cosine(stored: NDArray[np.float16]) -> float:
    """The least cosine of any two of some vectors (m, d); a lower bound of it where there are more than `EXACT_MEMBERS`.

    No two vectors are further apart than the sum of their angles to a third, here to the mean direction.
    """
    vectors = unit(stored)
    if len(vectors) > EXACT_MEMBERS:
        mean = vectors.sum(axis=0, dtype=np.float64)
        cosines = vectors @ (mean / np.linalg.norm(mean)).astype(np.float32)
        widest = np.arccos(np.clip(np.sort(cosines)[:2].astype(np.float64), -1, 1)).sum()
        return float(np.cos(min(np.pi, widest)))
    blocks = (vectors[start : start + _BLOCK] @ vectors[start:].T for start in range(0, len(vectors), _BLOCK))
    return min(1.0, *(float(block.min()) for block in blocks)) if len(vectors) else 1.0


def _group_of(groups: Groups, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of each position, −1 where it is in none."""
    if not len(groups.members):
        return np.full(len(positions), -1)
    at = np.minimum(np.searchsorted(groups.members, positions), len(groups.members) - 1)
    return np.where(groups.members[at] == positions, groups.numbers[at], -1)
