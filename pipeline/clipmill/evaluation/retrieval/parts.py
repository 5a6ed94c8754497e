"""Ranks from pieces of work, each of which is left in the staging folder.

How many items score above a positive is a sum over the parts of the gallery, so pieces know nothing of each other, and their
sums are the ranks, whatever the parts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.settings import Products
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.retrieval.counting import Counts
from clipmill.evaluation.retrieval.piece import Counted, Piece, count_piece, cut_pieces, piece_bytes, question_of
from clipmill.evaluation.retrieval.products import MOST_WORKERS
from clipmill.evaluation.retrieval.ranks import Answers, Ranks, find_positives, join_ranks, ranks_of
from clipmill.evaluation.vectors import Vectors
from clipmill.stage.checkpoints import load, save
from clipmill.stage.pieces import Pieces
from clipmill.storage import Location


@dataclass(frozen=True)
class InParts:
    """Ranks the queries of a dataset by pieces of work, whose results are kept in ``folder``. ``engine`` gives what does them,
    once there are some to do; what multiplies is as ``products`` says."""

    embeddings: Embeddings
    folder: Location
    engine: Callable[[], Pieces]
    products: Products = "auto"

    def __call__(
        self,
        direction: Direction,
        queries: Vectors,
        gallery: Vectors,
        positions: NDArray[np.int64],
        progress: Callable[[int], object],
    ) -> Ranks:
        """Ranks of the queries at ``positions``, each of which has a positive. ``progress`` is called with queries just done:
        a part of the gallery counts for as large a part of its queries.

        Raises RunFailed where a piece fails for good; the same command continues from what was counted.
        """
        groups = _by_queries(cut_pieces(direction, len(positions), len(gallery), queries.dimension))
        answers, waiting, found = Answers.of(gallery), [], []
        for (first, last), group in groups.items():
            positives = find_positives(queries, gallery, answers, positions[first:last])
            left = [piece for piece in group if load(piece.counts_in(self.folder), Counted) is None]
            if left:
                save(left[0].queries_in(self.folder), question_of(queries, positives))
            found.append((group, positives))
            waiting += left
        done = len(gallery) * len(positions) - sum(piece.products for piece in waiting)
        self._count(waiting, _Told(len(positions), len(gallery), progress, done), queries.dimension)
        return join_ranks([ranks_of(queries, len(gallery), positives, self._sum(group)) for group, positives in found])

    def _count(self, waiting: list[Piece], told: "_Told", dimension: int) -> None:
        told(0)
        if not waiting:
            return
        pieces = self.engine()
        shared, cores = pieces.share(self.embeddings), min(MOST_WORKERS, pieces.cores_each(len(waiting)))
        gpus = int(self.products == "gpu")
        for piece in waiting:
            what = (
                f"ranking queries {piece.first:,} to {piece.last - 1:,} of {piece.direction} among items {piece.start:,} to "
                f"{piece.stop - 1:,} of {self.embeddings.location}"
            )
            memory = piece_bytes(piece, dimension, cores)
            pieces.start(
                what,
                count_piece,
                shared,
                self.folder,
                piece,
                cores,
                self.products,
                cores=cores,
                memory=memory,
                gpus=gpus,
                then=lambda piece: told(piece.products),
            )
        pieces.wait()

    def _sum(self, of_the_same_queries: list[Piece]) -> Counts:
        found = []
        for piece in of_the_same_queries:
            place = piece.counts_in(self.folder)
            counted = load(place, Counted)
            if counted is None:
                storage.remove(place)
                raise RunFailed(f"{place} is gone or damaged; run the same command again to make it anew")
            found.append(counted.counts)
        return reduce(add, found)


@dataclass
class _Told:
    """Tells ``progress`` of ``queries`` in a ``gallery``, of whose pairs ``done`` are."""

    queries: int
    gallery: int
    progress: Callable[[int], object]
    done: int
    said: int = 0

    def __call__(self, pairs: int) -> None:
        self.done += pairs
        whole = self.done // self.gallery
        self.progress(whole - self.said)
        self.said = whole


def _by_queries(pieces: list[Piece]) -> dict[tuple[int, int], list[Piece]]:
    groups: dict[tuple[int, int], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.first, piece.last), []).append(piece)
    return groups
