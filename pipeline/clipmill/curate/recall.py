"""The share of all pairs that clusters found, by rows drawn at random and compared with all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import proportion_interval
from clipmill.core.manifests import Interval
from clipmill.core.near_pairs import BandRecall, PairsRecall
from clipmill.curate.groups import groups_of
from clipmill.curate.margins import BAND, bands_of, edges
from clipmill.curate.near import Pairs


@dataclass(frozen=True)
class TruePairs:
    """All pairs (p,) of some rows: ``row`` is the position of one of those, ``other`` of any row, ``cosine`` is float32."""

    row: NDArray[np.int64]
    other: NDArray[np.int64]
    cosine: NDArray[np.float32]

    @staticmethod
    def join(parts: list[TruePairs]) -> TruePairs:
        """All of them, in order."""
        return TruePairs(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "other", "cosine"))
        )


def measure_recall(truth: TruePairs, rows: int, found: Pairs, alike: Pairs, n: int, threshold: float) -> PairsRecall:
    """The recall of the pairs ``found`` among ``n`` rows, by all pairs of ``rows`` rows that were drawn. Of rows that are
    ``alike`` the first stands for all, since the others were compared with no other."""
    is_found = are_found(truth, found, alike, n)
    bands = bands_of(truth.cosine, threshold)
    lows = edges(threshold)
    return PairsRecall(
        rows=rows,
        rows_with_pairs=len(np.unique(truth.row)),
        recall=_interval(is_found, truth.row),
        bands=[
            BandRecall(
                low=round(float(low), 6),
                high=round(min(1.0, float(low) + BAND), 6),
                recall=_interval(is_found[bands == number], truth.row[bands == number]),
            )
            for number, low in enumerate(lows)
        ],
    )


def are_found(truth: TruePairs, found: Pairs, alike: Pairs, n: int) -> NDArray[np.bool_]:
    """Which pairs (p,) are among those found, which are in order of first and second position."""
    row, other = stand_ins(truth.row, alike), stand_ins(truth.other, alike)
    wanted = np.minimum(row, other) * n + np.maximum(row, other)
    is_found: NDArray[np.bool_] = np.isin(wanted, found.first * n + found.second) | (row == other)
    return is_found


def stand_ins(positions: NDArray[np.int64], alike: Pairs) -> NDArray[np.int64]:
    """For each position (p,) the first row that has its vector, where that row stands for it; else itself."""
    members, groups = groups_of(alike.first, alike.second)
    if not len(members):
        return positions
    firsts = members[np.unique(groups, return_index=True)[1]][groups]
    at = np.minimum(np.searchsorted(members, positions), len(members) - 1)
    return np.where(members[at] == positions, firsts[at], positions)


def _interval(is_found: NDArray[np.bool_], rows: NDArray[np.int64]) -> Interval | None:
    return proportion_interval(is_found.astype(np.float64), rows) if len(is_found) else None
