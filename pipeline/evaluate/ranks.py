"""The exact rank of each query's best positive, by blocked matrix products.

A score is the inner product of two stored float16 vectors. Such vectors, of at most unit length, are multiples of 2⁻²⁴,
so a product is a multiple of 2⁻⁴⁸ and their sum is exact in float64 in whatever order it is added up. Blocks are
multiplied in float32, whose error has a bound; only scores within that bound of the positive's are computed again in
float64. Ranks and ties are therefore exact, and do not depend on block sizes or on the BLAS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.vectors import Vectors, blocks

BLOCK = 4096
"""Queries and gallery items a matrix product: 64 MiB of float32 scores at a time."""

_PAIRS = 8192
_DENSE = 0.02
_FLOAT32_ROUNDING = 2.0**-24


@dataclass(frozen=True)
class Ranks:
    """Where the best positive of each query stands in the gallery: arrays of one entry a query.

    ``rows`` and ``positions`` name the query, ``best`` the gallery position of its best positive and ``score`` its score.
    ``higher`` counts gallery items that score strictly higher; ``tied`` the non-positives that score exactly the same,
    ``tied_positives`` the positives that do (at least one). Items that tie stand in random order: what is reported is
    the expectation over it.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    higher: NDArray[np.int64]
    tied: NDArray[np.int64]
    tied_positives: NDArray[np.int64]
    score: NDArray[np.float64]
    best: NDArray[np.int64]
    gallery: int

    def __len__(self) -> int:
        return len(self.rows)

    def hits(self, k: int) -> NDArray[np.float64]:
        """For each query the probability that a positive is among the first ``k``: 0 or 1 where nothing ties."""
        places = np.clip(k - self.higher, 0, None)
        missed = np.where(places > 0, 0.0, 1.0)
        uncertain = np.flatnonzero((self.tied > 0) & (places > 0))
        if len(uncertain):
            tied, positives = self.tied[uncertain], self.tied_positives[uncertain]
            missed[uncertain] = probability_of_none(tied + positives, positives, places[uncertain], k)
        return 1.0 - missed

    def expected_rank(self) -> NDArray[np.float64]:
        """For each query the expected place of its first positive, counted from 1."""
        return self.higher + (self.tied + self.tied_positives + 1) / (self.tied_positives + 1)


def join_ranks(pieces: Sequence[Ranks]) -> Ranks:
    """The ranks of several sets of queries in one gallery, in order; of one piece at least."""
    if len(pieces) == 1:
        return pieces[0]
    columns = [field.name for field in fields(Ranks) if field.name != "gallery"]
    joined = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in columns}
    return Ranks(**joined, gallery=pieces[0].gallery)


def probability_of_none(
    items: NDArray[np.int64], positives: NDArray[np.int64], places: NDArray[np.int64], most: int
) -> NDArray[np.float64]:
    """Probability that none of ``positives`` is among ``places`` drawn from ``items`` without replacement.

    ``most`` is the largest entry of ``places`` that matters. The hypergeometric probability of zero, as a product.
    """
    missed = np.ones(len(items))
    for place in range(most):
        drawn = np.maximum(items - positives - place, 0) / np.maximum(items - place, 1)
        missed *= np.where(place < places, drawn, 1.0)
    return missed


def rank_positives(
    queries: Vectors,
    gallery: Vectors,
    positions: NDArray[np.int64] | None = None,
    progress: Callable[[int], object] = lambda done: None,
    block: int = BLOCK,
) -> Ranks:
    """Ranks of the queries at ``positions`` (default: all) that have a positive: a gallery item of the same row.

    Memory: a few blocks, whatever the sizes. ``progress`` is called with the number of queries just done.
    """
    chosen = np.arange(len(queries)) if positions is None else positions
    order = np.argsort(gallery.rows, kind="stable")
    ordered = gallery.rows[order]
    first = np.searchsorted(ordered, queries.rows[chosen], "left")
    last = np.searchsorted(ordered, queries.rows[chosen], "right")
    answerable = last > first
    chosen, first, last = chosen[answerable], first[answerable], last[answerable]
    higher, tied = np.zeros(len(chosen), np.int64), np.zeros(len(chosen), np.int64)
    tied_positives, best = np.zeros(len(chosen), np.int64), np.zeros(len(chosen), np.int64)
    score = np.zeros(len(chosen))
    shape = (min(block, len(chosen)), min(block, len(gallery)))
    scores, reached = np.empty(shape, np.float32), np.empty(shape, np.bool_)
    for part in blocks(len(chosen), block):
        at = chosen[part]
        score[part], tied_positives[part], best[part] = _best_positive(
            queries, at, gallery, order, first[part], last[part]
        )
        query_block = queries.values[at]
        widened = query_block.astype(np.float32)
        for items in blocks(len(gallery), block):
            item_block = gallery.values[items]
            found, mask = scores[: len(at), : len(item_block)], reached[: len(at), : len(item_block)]
            np.matmul(widened, item_block.astype(np.float32).T, out=found)
            above, equal = _compare(found, score[part], query_block, item_block, mask)
            higher[part] += above
            tied[part] += equal
        progress(len(at))
    return Ranks(
        rows=queries.rows[chosen],
        positions=chosen,
        higher=higher,
        tied=tied - tied_positives,
        tied_positives=tied_positives,
        score=score,
        best=best,
        gallery=len(gallery),
    )


def _best_positive(
    queries: Vectors,
    at: NDArray[np.int64],
    gallery: Vectors,
    order: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Highest score among each query's positives (``order[first:last]``), how many reach it, and the first that does."""
    counts = last - first
    starts = np.cumsum(counts) - counts
    query = np.repeat(np.arange(len(at)), counts)
    positives = order[np.repeat(first - starts, counts) + np.arange(counts.sum())]
    scores = pair_scores(queries.values, at[query], gallery.values, positives)
    best = np.maximum.reduceat(scores, starts)
    reached = scores == best[query]
    where = np.flatnonzero(reached)
    return best, np.add.reduceat(reached.astype(np.int64), starts), positives[where[np.searchsorted(where, starts)]]


def pair_scores(
    left: NDArray[np.float16], left_at: NDArray[np.int64], right: NDArray[np.float16], right_at: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Exact inner products of pairs, float64 (n,): ``left[left_at[i]] · right[right_at[i]]``."""
    scores = np.empty(len(left_at))
    for part in blocks(len(left_at), _PAIRS):
        one, other = left[left_at[part]].astype(np.float64), right[right_at[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", one, other)
    return scores


def _compare(
    scores: NDArray[np.float32],
    score: NDArray[np.float64],
    queries: NDArray[np.float16],
    items: NDArray[np.float16],
    reached: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each query: items that score strictly higher than ``score``, and items that score exactly that.

    ``scores`` are those of ``queries`` and ``items`` in float32; ``reached`` is a buffer of their shape.
    """
    tolerance = 1.1 * queries.shape[1] * _FLOAT32_ROUNDING
    low, high = (score - tolerance).astype(np.float32), (score + tolerance).astype(np.float32)
    np.greater_equal(scores, low[:, None], out=reached)
    higher = np.zeros(len(queries), np.int64)
    if np.count_nonzero(reached) > _DENSE * reached.size:
        above = scores > high[:, None]
        higher += _count_rows(above)
        np.logical_xor(reached, above, out=reached)
        if np.count_nonzero(reached) > _DENSE * reached.size:
            exact = queries.astype(np.float64) @ items.astype(np.float64).T
            return higher + _count_rows(reached & (exact > score[:, None])), _count_rows(exact == score[:, None])
    query, item = np.divmod(np.flatnonzero(reached), len(items))
    exact_scores = scores[query, item].astype(np.float64)
    near = np.flatnonzero(exact_scores <= high[query])
    exact_scores[near] = pair_scores(queries, query[near], items, item[near])
    higher += np.bincount(query[exact_scores > score[query]], minlength=len(queries))
    return higher, np.bincount(query[exact_scores == score[query]], minlength=len(queries))


def _count_rows(matrix: NDArray[np.bool_]) -> NDArray[np.int64]:
    """True entries of each row; several times faster than a sum over an axis."""
    return np.fromiter((np.count_nonzero(row) for row in matrix), np.int64, len(matrix))
