"""Groups of near-duplicates: the rows that pairs connect, and which row of each is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmill.curate.near import Pairs


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


def complete_groups_of(pairs: Pairs, alike: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `groups_of`, but every two rows of a group are a pair; rows that are left alone are in none.

    Groups grow by complete linkage: of all pairs of groups of which every row of one is a pair with every row of the other, the
    one whose least cosine is greatest becomes one group, until there is none. Of rows that are ``alike`` the first stands for
    all, and the others go where it goes.
    """
    stands = _Standing.of(alike)
    apart = ~np.isin(pairs.second, stands.followers)
    one, other, cosine = pairs.first[apart], pairs.second[apart], pairs.cosine[apart]
    loose = ~np.isin(one, stands.followers)
    one, other, cosine = one[loose], other[loose], cosine[loose]
    members, chains = groups_of(one, other)
    label = members[np.unique(chains, return_index=True)[1]][chains] if len(members) else members
    chain_of_pair = chains[np.searchsorted(members, one)]
    sizes = np.bincount(chains, minlength=1)
    whole = np.bincount(chain_of_pair, minlength=len(sizes)) == sizes * (sizes - 1) // 2
    order = np.lexsort((other, one, -cosine, chain_of_pair))
    bounds = np.searchsorted(chain_of_pair[order], np.arange(len(sizes) + 1))
    for chain in np.flatnonzero(~whole):
        edges = order[bounds[chain] : bounds[chain + 1]]
        lowest = _linked(one[edges].tolist(), other[edges].tolist())
        at = np.searchsorted(members, np.fromiter(lowest.keys(), np.int64))
        label[at] = np.fromiter(lowest.values(), np.int64)
    return _numbered(
        np.concatenate([members, stands.followers]),
        np.concatenate([label, _looked_up(stands.leaders, members, label)]),
        stands.leaders,
    )


@dataclass(frozen=True)
class _Standing:
    """Rows (f,) that others stand for, in rising order, and the first row of the same vector for each."""

    followers: NDArray[np.int64]
    leaders: NDArray[np.int64]

    @staticmethod
    def of(alike: Pairs) -> _Standing:
        members, groups = groups_of(alike.first, alike.second)
        if not len(members):
            return _Standing(members, members)
        leaders = members[np.unique(groups, return_index=True)[1]][groups]
        follows = leaders != members
        return _Standing(members[follows], leaders[follows])


def _looked_up(positions: NDArray[np.int64], members: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label of each position; the position itself where it is no member."""
    if not len(members):
        return positions
    at = np.minimum(np.searchsorted(members, positions), len(members) - 1)
    return np.where(members[at] == positions, label[at], positions)


def _numbered(
    rows: NDArray[np.int64], label: NDArray[np.int64], leaders: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in groups of two or more, in order, and their groups numbered by the lowest row. ``leaders`` may be rows that no
    pair but those of their followers names."""
    alone = np.setdiff1d(leaders, rows)
    rows, label = np.concatenate([rows, alone]), np.concatenate([label, alone])
    order = np.argsort(rows)
    rows, label = rows[order], label[order]
    _, first, group, sizes = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    several = sizes[group] > 1
    lowest = rows[first][group][several]  # rows are in order, so the first of a label is its lowest
    return rows[several], np.unique(lowest, return_inverse=True)[1].astype(np.int64)


@dataclass
class _Group:
    """Rows that are one group so far, and by the name of each other group how many pairs lead there."""

    rows: list[int]
    pairs: dict[int, int] = field(default_factory=dict)


def _linked(one: list[int], other: list[int]) -> dict[int, int]:
    """Complete linkage of pairs in falling order of cosine: the lowest row of its group for each row.

    Two groups become one with the last of the pairs between them. Then none is left between rows of one group, so each pair
    leads from one group to another, and it is enough to count.
    """
    group_of = {row: row for row in (*one, *other)}
    groups = {row: _Group([row]) for row in group_of}
    for first, second in zip(one, other, strict=True):
        here, there = group_of[first], group_of[second]
        left, right = groups[here], groups[there]
        left.pairs[there] = right.pairs[here] = left.pairs.get(there, 0) + 1
        if left.pairs[there] < len(left.rows) * len(right.rows):
            continue
        if len(left.pairs) + len(left.rows) < len(right.pairs) + len(right.rows):
            here, there, left, right = there, here, right, left
        for row in right.rows:
            group_of[row] = here
        left.rows += right.rows
        for third, count in right.pairs.items():
            back = groups[third].pairs
            del back[there]
            if third != here:
                left.pairs[third] = back[here] = left.pairs.get(third, 0) + count
        del groups[there]
    return {row: lowest for group in groups.values() for lowest in [min(group.rows)] for row in group.rows}


def kept_of(groups: NDArray[np.int64], worth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which member of each group is kept: that of greatest ``worth`` (members,), of equals the first; NaN is least."""
    known = np.where(np.isnan(worth), -np.inf, worth)
    order = np.lexsort((np.arange(len(groups)), -known, groups))
    best = order[np.unique(groups[order], return_index=True)[1]]
    kept = np.zeros(len(groups), bool)
    kept[best] = True
    return kept
