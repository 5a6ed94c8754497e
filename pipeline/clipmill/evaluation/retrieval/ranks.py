"""The exact ranks of each query's positives, by blocked matrix products."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from clipmill.evaluation.retrieval.counting import Counts, Levels, Strip, count_strip, pair_products
from clipmill.evaluation.vectors import Vectors, blocks, let_go

Number = TypeVar("Number", bound=np.number)
BLOCK = 4096
"""Queries whose vectors are held at a time, while the gallery passes by."""
GALLERY_BLOCK = 16_384
"""Gallery items that are held at a time."""
TILE_QUERIES = 512
"""Queries per matrix product: 32 MiB of float32 scores."""
_STRIP_QUERIES = 64
_MOST_WORKERS = BLOCK // TILE_QUERIES


@dataclass(frozen=True)
class Ranks:
    """Where the positives of each query stand in the gallery.

    ``rows`` and ``positions`` (q,) name the query, ``best`` (q,) the gallery position of its best positive and ``score``
    (q,) its score. Query i has ``levels[i]`` distinct scores among its positives, at least one; of each such level, in
    falling order and query after query, ``level_higher`` (l,) counts the gallery items that score strictly higher,
    ``level_items`` those that score exactly that and ``level_positives`` the positives among these, at least one. Items
    that tie stand in random order: what is reported is the expectation over it.
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
        )

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
    gallery_block: int = GALLERY_BLOCK,
) -> Ranks:
    """Ranks of the queries at ``positions`` (default: all) that have a positive: a gallery item of the same row.

    Memory is a few blocks, whatever the sizes. ``progress`` is called with the number of queries just done.
    """
    # The gallery in order of row: the positives of a query are the stretch that has its row.
    chosen = np.arange(len(queries)) if positions is None else positions
    order = np.argsort(gallery.rows, kind="stable")
    ordered = gallery.rows[order]
    first = np.searchsorted(ordered, queries.rows[chosen], "left")
    last = np.searchsorted(ordered, queries.rows[chosen], "right")
    answerable = last > first
    chosen, first, last = chosen[answerable], first[answerable], last[answerable]
    done = []
    blas = ThreadpoolController().select(user_api="blas")
    workers = min(_MOST_WORKERS, max([1, *(library["num_threads"] for library in blas.info())]))
    # Each worker both multiplies and counts: with BLAS threads of its own, one would spin while the other works.
    with blas.limit(limits=1), ThreadPoolExecutor(workers) as pool:
        for part in blocks(len(chosen), block):
            at, own = chosen[part], (first[part], last[part])
            done.append(_rank_block(queries, gallery, at, order, *own, gallery_block, workers, pool))
            progress(len(chosen[part]))
    return join_ranks(done) if done else _no_ranks(len(gallery))


def _no_ranks(gallery: int) -> Ranks:
    nothing = np.empty(0, np.int64)
    return Ranks(nothing, nothing, np.empty(0), nothing, nothing, nothing, nothing, nothing, gallery)


def _rank_block(
    queries: Vectors,
    gallery: Vectors,
    at: NDArray[np.int64],
    order: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    gallery_block: int,
    workers: int,
    pool: ThreadPoolExecutor,
) -> Ranks:
    """Ranks of the queries at positions ``at`` (q,), the positives of each of which are ``order[first:last]``."""
    # Every pair of a query and a positive of it, with its exact score.
    positives = last - first
    starts = np.cumsum(positives) - positives
    query = np.repeat(np.arange(len(at)), positives)
    own = order[np.repeat(first - starts, positives) + np.arange(positives.sum())]
    scores = pair_products(queries.values, at[query], gallery.values, own)
    # The positives of each query in falling order of score; where several score the same, they share a level.
    falling = np.lexsort((own, -scores, query))
    scores, own = scores[falling], own[falling]
    begins = np.r_[True, (scores[1:] != scores[:-1]) | (query[1:] != query[:-1])]
    level_at = np.flatnonzero(begins)
    levels = np.bincount(query[level_at], minlength=len(at))
    # How many items of the whole gallery lie above each level, and at it.
    counted = Levels(np.concatenate([[0], np.cumsum(levels)]), scores[level_at], queries.dimension)
    counts = _count(queries.values[at].astype(np.float32), gallery, counted, gallery_block, workers, pool)
    return Ranks(
        rows=queries.rows[at],
        positions=at,
        score=scores[starts],
        best=own[starts],
        levels=levels,
        level_higher=counts.higher(counted.starts),
        level_items=counts.equal,
        level_positives=np.diff(np.append(level_at, len(scores))),
        gallery=len(gallery),
    )


def _count(
    queries: NDArray[np.float32],
    gallery: Vectors,
    levels: Levels,
    gallery_block: int,
    workers: int,
    pool: ThreadPoolExecutor,
) -> Counts:
    """Counts the whole gallery against the levels of the ``queries`` (q, d), block by block, tiles of queries at a time."""
    counts = Counts(np.zeros(len(levels.values), np.int64), np.zeros(len(levels.values), np.int64))
    width = min(gallery_block, len(gallery))
    rows = min(TILE_QUERIES, len(queries))
    items = np.empty((width, gallery.dimension), np.float32)
    free: SimpleQueue[tuple[NDArray[np.float32], NDArray[np.bool_]]] = SimpleQueue()
    for _ in range(workers):
        free.put((np.empty(rows * width, np.float32), np.empty(_STRIP_QUERIES * width, np.bool_)))

    def count_tile(tile: slice, held: NDArray[np.float32]) -> None:
        buffers = free.get()
        try:
            size, across = tile.stop - tile.start, len(held)
            scores, reached = buffers[0][: size * across].reshape(size, across), buffers[1]
            np.matmul(queries[tile], held.T, out=scores)
            for strip in blocks(size, _STRIP_QUERIES):
                mask = reached[: (strip.stop - strip.start) * across].reshape(-1, across)
                count_strip(Strip(scores[strip], tile.start + strip.start, queries, held), levels, counts, mask)
        finally:
            free.put(buffers)

    # Each block of the gallery is widened once; its tiles change different counts, so they run at the same time.
    for part in blocks(len(gallery), width):
        held = items[: part.stop - part.start]
        held[:] = gallery.values[part]
        let_go(gallery.values)
        for tile in [pool.submit(count_tile, tile, held) for tile in blocks(len(queries), rows)]:
            tile.result()
    return counts
