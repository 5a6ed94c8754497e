"""Retrieval from one part of a dataset to another, text to image and image to text first, as the papers of CLIP, Flickr30k
and COCO and CLIP_benchmark define it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.retrieval.gallery_size import gallery_sizes, recall_in_gallery
from clipmill.evaluation.retrieval.measures import FAMILIES, RECALL_AT
from clipmill.evaluation.retrieval.ranks import BLOCK, Ranks, join_ranks, rank_positives
from clipmill.evaluation.vectors import Vectors, blocks
from clipmill.stage.checkpoints import Checkpoint, no_checkpoints

__all__ = ["Direction", "Retrieval", "queries_per_piece", "retrieve", "summarise"]

SMALLER_AT = (1, 10)
"""K of the recall in smaller galleries."""
CURVE_AT = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
PIECE_PRODUCTS = 2_000_000_000_000
"""Products of components between two checkpoints of ranks: under a minute's work of a few cores."""


@dataclass(frozen=True)
class Retrieval:
    """What one direction counts. With several captions per image, t2i asks each caption for its image, i2t each image
    for any one of its captions; scores are inner products of the stored vectors.

    ``hits[K]`` is the number of queries with a positive among the first K. Where items score exactly the same it is an
    expected number, over a random order of them, so that vectors which are all alike score no better than chance.
    ``intervals`` are by the key of the metric, without its direction. ``most_positives`` is the most that any query has,
    and ``smaller[K]`` maps sizes of random galleries to the expected R@K in them.
    """

    direction: Direction
    queries: int
    gallery: int
    without_positive: int
    gallery_only: int
    ties: int
    hits: dict[int, float]
    intervals: dict[str, Interval]
    most_positives: int = 1
    smaller: dict[int, dict[int, float]] = field(default_factory=dict)

    def recall(self, k: int) -> float:
        """R@K, for every K of the curve."""
        return self.hits[k] / self.queries

    def true_recall(self, k: int) -> float:
        """The share of a query's positives among the first K, mean over queries."""
        return self.intervals[f"true_recall@{k}"].value

    @property
    def figures(self) -> list[Figure]:
        """All metrics of the direction."""
        return [metric(f"{self.direction}.{key}").figure(interval) for key, interval in self.intervals.items()]


def retrieve(
    direction: Direction,
    queries: Vectors,
    gallery: Vectors,
    *,
    positions: NDArray[np.int64] | None = None,
    samples: int = 1000,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
    checkpoint: Checkpoint = no_checkpoints,
) -> tuple[Retrieval, Ranks] | None:
    """Ranks every query of ``positions`` (default: all) against the whole gallery; None when none has a positive.

    A positive is a gallery item of the query's row. A query without one is counted in ``without_positive`` and not
    ranked; gallery items that are no query's positive compete like the others and are counted in ``gallery_only``.
    Ranks go through ``checkpoint`` piece by piece, and then the result; ``progress`` is called with queries just done.
    """
    chosen = np.arange(len(queries)) if positions is None else positions
    if not len(chosen) or not len(gallery):
        return None
    pieces = blocks(len(chosen), queries_per_piece(gallery))
    ranks = join_ranks(
        [
            _rank_piece(f"ranks-{direction}-{number:05d}", queries, gallery, chosen[piece], progress, checkpoint)
            for number, piece in enumerate(pieces)
        ]
    )
    if not len(ranks):
        return None
    gallery_only = int(np.sum(~np.isin(gallery.rows, queries.rows)))
    result = checkpoint(
        f"retrieval-{direction}",
        Retrieval,
        lambda: summarise(direction, ranks, len(chosen), gallery_only, samples, seed),
    )
    return result, ranks


def queries_per_piece(gallery: Vectors) -> int:
    """Queries between two checkpoints of ranks, in whole blocks."""
    return BLOCK * max(1, PIECE_PRODUCTS // (BLOCK * max(1, len(gallery) * gallery.dimension)))


def _rank_piece(
    name: str,
    queries: Vectors,
    gallery: Vectors,
    positions: NDArray[np.int64],
    progress: Callable[[int], object],
    checkpoint: Checkpoint,
) -> Ranks:
    """Ranks of one piece; ``progress`` hears of all its queries, whether they are ranked now or were before."""
    reported = 0

    def report(done: int) -> None:
        nonlocal reported
        reported += done
        progress(done)

    ranks = checkpoint(name, Ranks, lambda: rank_positives(queries, gallery, positions, report))
    progress(len(ranks) - reported)
    return ranks


def summarise(direction: Direction, ranks: Ranks, asked: int, gallery_only: int, samples: int, seed: int) -> Retrieval:
    """Counts and intervals from ranks. Those of ``asked`` queries that have no positive are not among the ranks."""
    intervals: dict[str, Interval] = {}
    for family in FAMILIES:
        intervals |= family.intervals(ranks, samples, seed)
    return Retrieval(
        direction=direction,
        queries=len(ranks),
        gallery=ranks.gallery,
        without_positive=asked - len(ranks),
        gallery_only=gallery_only,
        ties=int(np.sum(ranks.tied > 0)),
        hits={k: float(ranks.hits(k).sum()) for k in CURVE_AT if k in RECALL_AT or k < ranks.gallery},
        intervals=intervals,
        most_positives=int(ranks.positives.max()),
        smaller={
            k: {size: float(recall_in_gallery(ranks, size, k).mean()) for size in gallery_sizes(ranks.gallery)}
            for k in SMALLER_AT
        },
    )
