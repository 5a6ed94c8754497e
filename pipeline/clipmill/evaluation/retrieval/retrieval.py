"""Text-to-image and image-to-text retrieval as the CLIP, Flickr30k and COCO papers and CLIP_benchmark define it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.retrieval.gallery_size import gallery_sizes, recall_in_gallery
from clipmill.evaluation.retrieval.measures import average_precision, ndcg, share_found
from clipmill.evaluation.retrieval.ranks import BLOCK, Ranks, join_ranks, rank_positives
from clipmill.evaluation.statistics.bootstrap import mean_intervals, median_interval
from clipmill.evaluation.vectors import Vectors, blocks
from clipmill.stage.checkpoints import Checkpoint, no_checkpoints

Direction = Literal["t2i", "i2t"]
RECALL_AT = (1, 5, 10)
NDCG_AT = 10
SMALLER_AT = (1, 10)
"""K of the recall in smaller galleries."""
CURVE_AT = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
PIECE_PRODUCTS = 2_000_000_000_000
"""Products of components that are computed between two times that ranks are kept: under a minute's work of a few cores."""


@dataclass(frozen=True)
class Retrieval:
    """Counts of one direction. With several captions an image, t2i asks each caption for its image, i2t each image
    for any one of its captions; scores are inner products of the stored vectors.

    ``shares_found[K]`` is the sum over queries of the share of its positives among the first K, and ``most_positives``
    the most that any query has. ``smaller[K]`` maps sizes of random galleries to the expected R@K in them.
    ``hits[K]`` is the number of queries with a positive among the first K. Where items score exactly the same it is an
    expected number, over a random order of them, so that vectors which are all alike score no better than chance.
    """

    direction: Direction
    queries: int
    gallery: int
    without_positive: int
    gallery_only: int
    hits: dict[int, float]
    rank_sum: float
    reciprocal_rank_sum: float
    median_rank: float
    ties: int
    intervals: dict[str, Interval]
    shares_found: dict[int, float] = field(default_factory=dict)
    ndcg_sum: float = 0.0
    average_precision_sum: float = 0.0
    most_positives: int = 1
    smaller: dict[int, dict[int, float]] = field(default_factory=dict)

    def recall(self, k: int) -> float:
        """Hit rate: share of queries for which at least one positive is among the first K results."""
        return self.hits[k] / self.queries

    def true_recall(self, k: int) -> float:
        """Share of a query's positives that are among the first K results, mean over queries; R@K asks for one only."""
        return self.shares_found[k] / self.queries

    @property
    def mean_ndcg(self) -> float:
        """Discounted gain of the first 10 results, where a positive at place r gains 1 / log₂(1 + r), over that of all
        positives in the first places; mean over queries."""
        return self.ndcg_sum / self.queries

    @property
    def mean_average_precision(self) -> float:
        """Mean over a query's positives of the share of positives among the results up to it, mean over queries (mAP)."""
        return self.average_precision_sum / self.queries

    @property
    def mean_rank(self) -> float:
        """Mean over queries of the place, from 1, at which the first positive comes."""
        return self.rank_sum / self.queries

    @property
    def mean_reciprocal_rank(self) -> float:
        """Mean over queries of 1 / rank of the first positive: 1 when every query has a positive in first place."""
        return self.reciprocal_rank_sum / self.queries


MEDIAN_RANK = "The place, from 1, at which the first positive comes for the middle query."


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

    Ranks are kept piece by piece of the queries, and so is the result. A positive is a gallery item of the query's row.
    A query without one is counted in ``without_positive`` and not ranked; gallery items that are no query's positive
    compete like the others and are counted in ``gallery_only``.
    """
    chosen = np.arange(len(queries)) if positions is None else positions
    if not len(chosen) or not len(gallery):
        return None
    pieces = blocks(len(chosen), queries_a_piece(gallery))
    ranks = join_ranks(
        [
            _kept_ranks(f"ranks-{direction}-{number:05d}", queries, gallery, chosen[piece], progress, checkpoint)
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


def queries_a_piece(gallery: Vectors) -> int:
    """Queries that are ranked between two times that ranks are kept, in whole blocks."""
    return BLOCK * max(1, PIECE_PRODUCTS // (BLOCK * max(1, len(gallery) * gallery.dimension)))


def _kept_ranks(
    name: str,
    queries: Vectors,
    gallery: Vectors,
    positions: NDArray[np.int64],
    progress: Callable[[int], object],
    checkpoint: Checkpoint,
) -> Ranks:
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        told += done
        progress(done)

    ranks = checkpoint(name, Ranks, lambda: rank_positives(queries, gallery, positions, tell))
    progress(len(ranks) - told)
    return ranks


def summarise(direction: Direction, ranks: Ranks, asked: int, gallery_only: int, samples: int, seed: int) -> Retrieval:
    """Counts and intervals from ranks; of ``asked`` queries those that have no positive are not among the ranks."""
    curve = [k for k in CURVE_AT if k in RECALL_AT or k < ranks.gallery]
    hits = {k: ranks.hits(k) for k in curve}
    rank = ranks.expected_rank()
    reciprocal = 1 / rank
    recalls = mean_intervals(np.stack([hits[k] for k in RECALL_AT], axis=1), ranks.rows, samples, seed)
    intervals = {f"recall@{k}": interval for k, interval in zip(RECALL_AT, recalls, strict=True)}
    over_all = {f"true_recall@{k}": share_found(ranks, k) for k in RECALL_AT}
    over_all["ndcg"] = ndcg(ranks, NDCG_AT)
    over_all["mean_average_precision"] = average_precision(ranks)
    over_all["mean_reciprocal_rank"] = reciprocal
    found = mean_intervals(np.stack(list(over_all.values()), axis=1), ranks.rows, samples, seed)
    intervals |= dict(zip(over_all, found, strict=True))
    intervals["mean_rank"] = mean_intervals(rank[:, None], ranks.rows, samples, seed, proportions=False)[0]
    intervals["median_rank"] = median_interval(rank, ranks.rows, samples, seed)
    return Retrieval(
        direction=direction,
        queries=len(ranks),
        gallery=ranks.gallery,
        without_positive=asked - len(ranks),
        gallery_only=gallery_only,
        hits={k: float(values.sum()) for k, values in hits.items()},
        rank_sum=float(rank.sum()),
        reciprocal_rank_sum=float(reciprocal.sum()),
        median_rank=intervals["median_rank"].value,
        ties=int(np.sum(ranks.tied > 0)),
        intervals=intervals,
        shares_found={k: float(over_all[f"true_recall@{k}"].sum()) for k in RECALL_AT},
        ndcg_sum=float(over_all["ndcg"].sum()),
        average_precision_sum=float(over_all["mean_average_precision"].sum()),
        most_positives=int(ranks.positives.max()),
        smaller={
            k: {size: float(recall_in_gallery(ranks, size, k).mean()) for size in gallery_sizes(ranks.gallery)}
            for k in SMALLER_AT
        },
    )
