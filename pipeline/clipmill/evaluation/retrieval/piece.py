"""One piece of ranking: some queries counted against a part of the gallery.

A piece reads its queries from a file that was prepared for it, and its part of the gallery from the dataset, and leaves what it
counted in a file: so it can run on another machine, and any number of times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import RunFailed
from clipmill.core.settings import Products
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.evaluation.directions import Direction, sides_of
from clipmill.evaluation.retrieval.counting import Counts, Levels
from clipmill.evaluation.retrieval.products import BLOCK, GALLERY_BLOCK, counting
from clipmill.evaluation.retrieval.ranks import Positives
from clipmill.evaluation.vectors import Vectors, blocks
from clipmill.index.build.gallery import Gallery
from clipmill.index.search.products import device_for
from clipmill.stage.checkpoints import load, save
from clipmill.stage.pieces import Alive
from clipmill.storage import Location

PIECE_QUERIES = 32 * BLOCK
"""Queries of a piece at most: an eighth of a gigabyte at 512 dimensions, and the more there are, the less often the gallery is
read."""
PIECE_PRODUCTS = 2_000_000_000_000
"""Products of components in a piece: a minute of a core or two, which is what a kill costs."""
MOST_PIECES = 4096
"""Pieces of a direction, if they are not to be larger than that: each leaves a file."""


@dataclass(frozen=True)
class Piece:
    """The queries ``first`` to ``last`` − 1 of those that are ranked, and the gallery's positions ``start`` to ``stop`` − 1."""

    direction: Direction
    first: int
    last: int
    start: int
    stop: int

    @property
    def products(self) -> int:
        """Pairs of a query and an item."""
        return (self.last - self.first) * (self.stop - self.start)

    def counts_in(self, folder: Location) -> Location:
        """Where what was counted lies; the name says of what, as another release may cut otherwise."""
        return folder / f"counts-{self.direction}-{self.first}-{self.last}-{self.start}-{self.stop}.npz"

    def queries_in(self, folder: Location) -> Location:
        """Where its queries lie, and those of all pieces of the same queries."""
        return folder / f"queries-{self.direction}-{self.first}-{self.last}.npz"


@dataclass(frozen=True)
class Question:
    """Queries ``values`` float16 (q, d) with the levels that the gallery is counted against."""

    values: NDArray[np.float16]
    starts: NDArray[np.int64]
    levels: NDArray[np.float64]


@dataclass(frozen=True)
class Counted:
    """`Counts` as they are kept: in as few bytes as the largest needs, since most are 0."""

    equal: NDArray[np.unsignedinteger]
    between: NDArray[np.unsignedinteger]

    @staticmethod
    def of(blocks: Sequence[Counts]) -> "Counted":
        """Of one block of queries after the other."""
        return Counted(
            _narrow(np.concatenate([counts.equal for counts in blocks])),
            _narrow(np.concatenate([counts.between for counts in blocks])),
        )

    @property
    def counts(self) -> Counts:
        return Counts(self.equal.astype(np.int64), self.between.astype(np.int64))


def cut_pieces(direction: Direction, queries: int, gallery: int, dimension: int) -> list[Piece]:
    """All pieces, those of the same queries together: of at most `PIECE_QUERIES` queries and `PIECE_PRODUCTS` products, or
    larger where that would make more than `MOST_PIECES`."""
    products = max(PIECE_PRODUCTS, queries * gallery * dimension // MOST_PIECES)
    asked = min(queries, PIECE_QUERIES)
    items = max(GALLERY_BLOCK, products // (asked * dimension))
    return [
        Piece(direction, of.start, of.stop, part.start, part.stop)
        for of in blocks(queries, PIECE_QUERIES)
        for part in blocks(gallery, items)
    ]


def question_of(queries: Vectors, positives: Positives) -> Question:
    """What is kept for the pieces of some queries."""
    levels = positives.levels
    return Question(np.asarray(queries.values[positives.positions]), levels.starts, levels.values)


def piece_bytes(piece: Piece, dimension: int, threads: int) -> int:
    """Memory that a piece takes: its queries and items, one block of each in float32, and tiles of scores."""
    stored = 2 * dimension * (piece.last - piece.first + piece.stop - piece.start)
    return stored + 4 * dimension * (BLOCK + GALLERY_BLOCK) + threads * (64 << 20) + (256 << 20)


def count_piece(
    alive: Alive,
    embeddings: Embeddings,
    folder: Location,
    piece: Piece,
    threads: int,
    products: Products = "auto",
) -> Piece:
    """Counts the piece's part of the gallery against its queries, unless that was done.

    Raises RunFailed where its queries are gone, where a GPU is asked for and there is none, or where the dataset does not hold
    what its manifest counts.
    """
    place = piece.counts_in(folder)
    if load(place, Counted) is not None:
        return piece
    asked = load(piece.queries_in(folder), Question)
    if asked is None:
        raise RunFailed(f"{piece.queries_in(folder)} is gone; run the same command again to make it anew")
    items = read_part(Gallery(embeddings, sides_of(piece.direction)[1]), piece.start, piece.stop, alive)
    levels = Levels(asked.starts, asked.levels, items.shape[1])
    found = []
    with counting(threads, device=device_for(products)) as count:
        for part in blocks(len(asked.values), BLOCK):
            found.append(count(asked.values[part].astype(np.float32), items, levels.of(part)))
            alive()
    save(place, Counted.of(found))
    return piece


def read_part(gallery: Gallery, start: int, stop: int, alive: Alive) -> NDArray[np.float16]:
    """The vectors (n, d) at positions ``start`` to ``stop`` − 1, as they are stored."""
    items = np.empty((stop - start, gallery.dimension), np.float16)
    done = 0
    for batch in gallery.batches(start, stop, ["embedding"], GALLERY_BLOCK):
        items[done : done + batch.num_rows] = vectors_of(batch.column("embedding"))
        done += batch.num_rows
        alive()
    if done != stop - start:
        raise RunFailed(f"{gallery.dataset.location} does not hold the rows that its manifest counts")
    return items


def _narrow(counts: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    narrow: NDArray[np.unsignedinteger] = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    return narrow
