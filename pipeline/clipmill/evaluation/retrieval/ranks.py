"""The exact ranks of each query's positives: their scores first, then how many items of the gallery lie above each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.counting import Counts, Levels, pair_products
from clipmill.evaluation.retrieval.products import BLOCK, GALLERY_BLOCK, Counting, counting
from clipmill.evaluation.vectors import Vectors, blocks

Number = TypeVar("Number", bound=np.number)


@dataclass(frozen=True)
class Ranks:
    """Where the positives of each query stand in the gallery.

    ``rows`` and ``positions`` (q,) name the query, ``best`` (q,) the gallery position of its best positive and ``score``
    (q,) its score. Query i has ``levels[i]`` distinct scores among its positives, at least one; of each such level, in
    falling order and query after query, ``level_higher`` (l,) counts the gallery items that score strictly higher,
    ``level_items`` those that score exactly that and ``level_positives`` the positives among these, at least one. Items
    that tie stand in random order: what is reported is the expectation over it. ``weights`` (q,) are of queries that were drawn
    at several rates: how many of the dataset each stands for; None where all stand for equally many. ``of`` queries they were
    drawn from; None: these are all, or a part that was not drawn.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    score: NDArray[np.float64]
    best: NDArray[np.int64]
    levels: NDArray[np.int64]
    level_higher: NDArray[np.int64]
    level_items: NDArray[np.int64]
    level_positives: NDArray[np.int64]
    gallery: int
    weights: NDArray[np.float64] | None = None
    of: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """For each query the number of its first level."""
        return np.cumsum(self.levels) - self.levels

    @cached_property
    def positives(self) -> NDArray[np.int64]:
        """For each query its positives in the gallery."""
        return self.sum_levels(self.level_positives)

    @property
    def higher(self) -> NDArray[np.int64]:
        """For each query the items that score higher than its best positive."""
        return self.level_higher[self.starts]

    @property
    def tied(self) -> NDArray[np.int64]:
        """For each query the other items that score exactly as its best positive."""
        return (self.level_items - self.level_positives)[self.starts]

    @property
    def tied_positives(self) -> NDArray[np.int64]:
        """For each query the positives that score as its best one, at least one."""
        return self.level_positives[self.starts]

    def take(self, chosen: NDArray[np.bool_]) -> "Ranks":
        """Those of the queries (q,) that are ``chosen``, in the same gallery."""
        levels = np.repeat(chosen, self.levels)
        return Ranks(
            rows=self.rows[chosen],
            positions=self.positions[chosen],
            score=self.score[chosen],
            best=self.best[chosen],
            levels=self.levels[chosen],
            level_higher=self.level_higher[levels],
            level_items=self.level_items[levels],
            level_positives=self.level_positives[levels],
            gallery=self.gallery,
            weights=None if self.weights is None else self.weights[chosen],
        )

    def mean(self, values: NDArray[np.float64]) -> float:
        """The mean of ``values`` (q,) over all queries that these stand for."""
        return float(values.mean()) if self.weights is None else float(np.average(values, weights=self.weights))

    def sum_levels(self, values: NDArray[Number]) -> NDArray[Number]:
        """Sums of ``values`` (l,) over the levels of each query (q,)."""
        return np.add.reduceat(values, self.starts) if len(self) else np.zeros(0, values.dtype)

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
    """The ranks of several sets of queries in one gallery, in order, not weighted yet; of one piece at least."""
    if len(pieces) == 1:
        return pieces[0]
    columns = [field.name for field in fields(Ranks) if field.name not in ("gallery", "weights", "of")]
    joined: dict[str, Any] = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in columns}
    return replace(pieces[0], **joined)


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


@dataclass(frozen=True)
class Answers:
    """Which items of a gallery are the positives of a row: ``order`` (n,) are their positions in order of row, ``rows`` (n,)
    the rows in that order."""

    order: NDArray[np.int64]
    rows: NDArray[np.int64]

    @staticmethod
    def of(gallery: Vectors) -> "Answers":
        order = np.argsort(gallery.rows, kind="stable")
        return Answers(order, gallery.rows[order])

    def stretches(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each of ``rows`` (q,) where its positives begin in ``order``, and how many there are."""
        first = np.searchsorted(self.rows, rows, "left")
        return first, np.searchsorted(self.rows, rows, "right") - first


@dataclass(frozen=True)
class Positives:
    """The queries at ``positions`` (q,), each with a positive: the gallery position ``best`` (q,) of its best one, how many
    positives share each level (l,), and the levels, which the gallery is counted against."""

    positions: NDArray[np.int64]
    best: NDArray[np.int64]
    level_positives: NDArray[np.int64]
    levels: Levels


def find_positives(queries: Vectors, gallery: Vectors, answers: Answers, positions: NDArray[np.int64]) -> Positives:
    """The positives of the queries at ``positions`` that have one: gallery items of the same row."""
    first, count = answers.stretches(queries.rows[positions])
    at, first, count = positions[count > 0], first[count > 0], count[count > 0]
    # Every pair of a query and a positive of it, with its exact score.
    starts = np.cumsum(count) - count
    query = np.repeat(np.arange(len(at)), count)
    own = answers.order[np.repeat(first - starts, count) + np.arange(count.sum())]
    scores = pair_products(queries.values, at[query], gallery.values, own)
    # The positives of each query in falling order of score; where several score the same, they share a level.
    falling = np.lexsort((own, -scores, query))
    scores, own = scores[falling], own[falling]
    begins = np.ones(len(scores), np.bool_)
    begins[1:] = (scores[1:] != scores[:-1]) | (query[1:] != query[:-1])
    level_at = np.flatnonzero(begins)
    levels = np.bincount(query[level_at], minlength=len(at))
    return Positives(
        positions=at,
        best=own[starts],
        level_positives=np.diff(np.append(level_at, len(scores))),
        levels=Levels(np.concatenate([[0], np.cumsum(levels)]), scores[level_at], queries.dimension),
    )


def ranks_of(queries: Vectors, gallery: int, positives: Positives, counts: Counts) -> Ranks:
    """The ranks that follow from what was counted in the whole gallery."""
    starts = positives.levels.starts
    return Ranks(
        rows=queries.rows[positives.positions],
        positions=positives.positions,
        score=positives.levels.values[starts[:-1]],
        best=positives.best,
        levels=np.diff(starts),
        level_higher=counts.higher(starts),
        level_items=counts.equal,
        level_positives=positives.level_positives,
        gallery=gallery,
    )


def rank_positives(
    queries: Vectors,
    gallery: Vectors,
    positions: NDArray[np.int64] | None = None,
    progress: Callable[[int], object] = lambda done: None,
    block: int = BLOCK,
    gallery_block: int = GALLERY_BLOCK,
) -> Ranks:
    """Ranks of the queries at ``positions`` (default: all) that have a positive: a gallery item of the same row.

    Memory is a few blocks, whatever the sizes. ``progress`` is called with the number of queries just done.
    """
    answers = Answers.of(gallery)
    chosen = np.arange(len(queries)) if positions is None else positions
    chosen = chosen[answers.stretches(queries.rows[chosen])[1] > 0]
    done = []
    with counting(gallery_block=gallery_block) as count:
        for part in blocks(len(chosen), block):
            positives = find_positives(queries, gallery, answers, chosen[part])
            done.append(ranks_of(queries, len(gallery), positives, _count(count, queries, gallery, positives)))
            progress(len(chosen[part]))
    return join_ranks(done) if done else _no_ranks(len(gallery))


def _count(count: Counting, queries: Vectors, gallery: Vectors, positives: Positives) -> Counts:
    return count(queries.values[positives.positions].astype(np.float32), gallery.values, positives.levels)


def _no_ranks(gallery: int) -> Ranks:
    nothing = np.empty(0, np.int64)
    return Ranks(nothing, nothing, np.empty(0), nothing, nothing, nothing, nothing, nothing, gallery)
