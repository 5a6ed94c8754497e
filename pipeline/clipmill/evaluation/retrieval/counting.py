"""Counting gallery items that score higher than the positives of each query, exactly, from float32 scores.

A score is the inner product of two stored float16 vectors. Such vectors, of at most unit length, are multiples of 2⁻²⁴,
so a product is a multiple of 2⁻⁴⁸ and their sum is exact in float64 in whatever order it is added up. A float32 score
has an error with a bound; only scores within that bound of a positive's are computed again in float64. Counts are
therefore exact, and do not depend on block sizes or on the BLAS.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_FLOAT32_ROUNDING = 2.0**-24
_APART = 4.0
"""Scores lie within ±1, so query number · 4 − score orders the scores of all queries in one array."""
DENSE = 0.2
"""Rows in which more than this share of the items reach the lowest level are dense: each level is counted over the row."""
_CLOSE = 0.02
"""Dense rows in which more than this share of the items come near a level are computed in float64 throughout."""
_COMPARED_LEVELS = 8
"""Levels of a dense row that are compared one by one; more are looked up in the sorted row."""
_PAIRS = 8192
"""Pairs whose vectors are widened to float64 at a time."""


@dataclass(frozen=True)
class Levels:
    """The distinct scores of each query's positives, which gallery items are counted against.

    ``values`` float64 (l,) are exact; those of query i are ``values[starts[i]:starts[i + 1]]``, in falling order, at
    least one. ``dimension`` is that of the vectors, which bounds the rounding of a float32 score.
    """

    starts: NDArray[np.int64]
    values: NDArray[np.float64]
    dimension: int

    @cached_property
    def tolerance(self) -> float:
        """What a float32 score may be off by: d roundings of a sum of at most 1 (Higham 2002, section 3.1)."""
        return 1.1 * self.dimension * _FLOAT32_ROUNDING

    @cached_property
    def lowest(self) -> NDArray[np.float32]:
        """For each query a float32 score (q, 1) below which no item reaches any of its levels."""
        return (self.values[self.starts[1:] - 1] - self.tolerance).astype(np.float32)[:, None]

    @cached_property
    def keys(self) -> NDArray[np.float64]:
        """All levels in rising order of query and falling order of score."""
        return _APART * np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts)) - self.values

    def of(self, queries: slice) -> "Levels":
        """Those of a run of the queries."""
        starts = self.starts[queries.start : queries.stop + 1]
        return Levels(starts - starts[0], self.values[starts[0] : starts[-1]], self.dimension)


@dataclass(frozen=True)
class Counts:
    """Items seen so far, for each level (l,) int64: those whose score equals it, and those between it and the one before."""

    equal: NDArray[np.int64]
    between: NDArray[np.int64]

    def __add__(self, other: "Counts") -> "Counts":
        """Counts of the same levels in two parts of a gallery, together."""
        return Counts(self.equal + other.equal, self.between + other.between)

    def higher(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Items that score strictly higher than each level, all levels (l,) of queries that begin at ``starts``."""
        summed = np.cumsum(self.between)
        before = np.concatenate([[0], summed])[starts[:-1]]
        result: NDArray[np.int64] = summed - np.repeat(before, np.diff(starts))
        return result


@dataclass(frozen=True)
class Strip:
    """Float32 ``scores`` (rows, n) of some consecutive queries of a block with n items, and the vectors they come from.

    ``queries`` (q, d) are those of the whole block and ``first`` the number of the first of these; ``items`` (n, d).
    Both are float32 copies of float16 vectors.
    """

    scores: NDArray[np.float32]
    first: int
    queries: NDArray[np.float32]
    items: NDArray[np.float32]

    def exact(self, query: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
        """Exact scores of pairs: the queries' numbers in the block, and the items'."""
        return pair_products(self.queries, query, self.items, item)


def count_strip(strip: Strip, levels: Levels, counts: Counts, reached: NDArray[np.bool_]) -> None:
    """Adds the strip's items to the counts of its queries' levels. ``reached`` is a buffer of the scores' shape.

    Strips of different queries may be counted at the same time: they change different entries.
    """
    rows, width = strip.scores.shape
    # Most items score below every positive of a query. The others may reach a level: `found` of them in each row.
    np.greater_equal(strip.scores, levels.lowest[strip.first : strip.first + rows], out=reached)
    found = np.fromiter((np.count_nonzero(row) for row in reached), np.int64, rows)
    # Rows in which many items reach a level are counted whole.
    dense = np.flatnonzero(found > DENSE * width)
    if len(dense):
        count_dense(strip, dense, levels, counts)
        reached[dense] = False
        found[dense] = 0
    # What is left of all other rows are a few pairs, counted one by one.
    places = np.flatnonzero(reached)
    if len(places):
        row = np.repeat(np.arange(rows), found)
        score = strip.scores.reshape(-1)[places]
        count_pairs(strip, row + strip.first, places - row * width, score, levels, counts)


def count_pairs(
    strip: Strip,
    query: NDArray[np.int64],
    item: NDArray[np.int64],
    score: NDArray[np.float32],
    levels: Levels,
    counts: Counts,
) -> None:
    """Counts pairs of ``query``, ``item`` and float32 ``score`` (n,), in rising order of query."""
    begin, end = levels.starts[query[0]], levels.starts[query[-1] + 1]
    keys = levels.keys[begin:end]
    # The first level that each pair exceeds by more than the tolerance. The levels of all queries lie in one sorted array,
    # so one search finds it for every pair.
    at = _APART * query - score
    exceeded = begin + np.searchsorted(keys - levels.tolerance, at, "right")
    # Pairs whose level before that is within the tolerance: only their exact score tells on which side they lie.
    start = levels.starts[query]
    last = np.maximum(exceeded - 1, start)
    near = np.flatnonzero((exceeded > start) & (at <= levels.keys[last] + levels.tolerance))
    if len(near):
        exact = strip.exact(query[near], item[near])
        level, least = exceeded[near] - 1, start[near]
        # Levels may lie closer together than the tolerance: climb, level by level, as far as the exact score does.
        while len(near):
            value = levels.values[level]
            np.add.at(counts.equal, level[exact == value], 1)
            above = exact > value
            exceeded[near[above]] = level[above]
            go_on = above & (level > least)
            near, exact, level, least = near[go_on], exact[go_on], level[go_on] - 1, least[go_on]
    # Pairs that exceed no level of their query count nowhere.
    counted = exceeded[exceeded < levels.starts[query + 1]]
    counts.between[begin:end] += np.bincount(counted - begin, minlength=end - begin)


def count_dense(strip: Strip, rows: NDArray[np.int64], levels: Levels, counts: Counts) -> None:
    """Counts whole ``rows`` of the strip, each of which many items reach."""
    close = []
    for row in rows:
        query = strip.first + int(row)
        part = slice(levels.starts[query], levels.starts[query + 1])
        counted = _count_row(strip, strip.scores[row], query, levels.values[part], levels.tolerance)
        if counted is None:
            close.append(query)
        else:
            counts.equal[part] += counted[0]
            counts.between[part] += counted[1]
    if not close:
        return
    # Rows where many items come near a level: all their scores in float64, sorted, and each level looked up.
    products = strip.queries[close].astype(np.float64) @ strip.items.astype(np.float64).T
    for query, exact in zip(close, products, strict=True):
        part = slice(levels.starts[query], levels.starts[query + 1])
        exact.sort()
        ends = np.searchsorted(exact, levels.values[part], "right")
        counts.equal[part] += ends - np.searchsorted(exact, levels.values[part], "left")
        counts.between[part] += np.diff(len(exact) - ends, prepend=0)


def _count_row(
    strip: Strip, scores: NDArray[np.float32], query: int, values: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """For each level of one query, ``values`` (l,), the items equal to it and those between it and the level before.

    None where so many of ``scores`` (n,) come near a level that the whole row is better computed in float64.
    """
    # Items surely above each level, and items near it, whose float32 score does not tell.
    low, high = (values - tolerance).astype(np.float32), (values + tolerance).astype(np.float32)
    few = len(values) <= _COMPARED_LEVELS
    if few:
        higher = np.array([np.count_nonzero(scores > bound) for bound in high])
        near = np.array([np.count_nonzero(scores >= bound) for bound in low]) - higher
    else:
        order = np.argsort(scores)
        ordered = scores[order]
        ends = np.searchsorted(ordered, high, "right")
        higher, near = len(scores) - ends, ends - np.searchsorted(ordered, low, "left")
    if near.sum() > _CLOSE * len(scores):
        return None
    # The items near each level, and on which side of it their exact scores lie.
    if few:
        windows = [
            np.flatnonzero((scores >= low[i]) & (scores <= high[i])) if near[i] else np.empty(0, np.int64)
            for i in range(len(values))
        ]
    else:
        windows = [order[end - count : end] for end, count in zip(ends, near, strict=True)]
    item, level = np.concatenate(windows), np.repeat(np.arange(len(values)), near)
    exact = strip.exact(np.full(len(item), query), item)
    higher = higher + np.bincount(level[exact > values[level]], minlength=len(values))
    equal = np.bincount(level[exact == values[level]], minlength=len(values))
    return equal, np.diff(higher, prepend=0)


def pair_products(
    left: NDArray[np.floating], left_at: NDArray[np.int64], right: NDArray[np.floating], right_at: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Exact inner products of pairs of float16 vectors, or of their float32 copies: float64 (n,)."""
    products = np.empty(len(left_at))
    for start in range(0, len(left_at), _PAIRS):
        part = slice(start, start + _PAIRS)
        one, other = left[left_at[part]].astype(np.float64), right[right_at[part]].astype(np.float64)
        products[part] = np.einsum("ij,ij->i", one, other)
    return products
