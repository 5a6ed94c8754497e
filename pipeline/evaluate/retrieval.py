"""Text-to-image and image-to-text retrieval as the CLIP, Flickr30k and COCO papers and CLIP_benchmark define it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.bootstrap import mean_intervals, median_interval
from pipeline.evaluate.ranks import Ranks, rank_positives
from pipeline.evaluate.vectors import Vectors
from pipeline.schemas import Interval

Direction = Literal["t2i", "i2t"]
RECALL_AT = (1, 5, 10)
CURVE_AT = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Retrieval:
    """Counts of one direction. With several captions an image, t2i asks each caption for its image, i2t each image
    for any one of its captions; scores are inner products of the stored vectors.

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

    def recall(self, k: int) -> float:
        """Share of queries for which at least one positive is among the first K results."""
        return self.hits[k] / self.queries

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
) -> tuple[Retrieval, Ranks] | None:
    """Ranks every query of ``positions`` (default: all) against the whole gallery; None when none has a positive.

    A positive is a gallery item of the query's row. A query without one is counted in ``without_positive`` and not
    ranked; gallery items that are no query's positive compete like the others and are counted in ``gallery_only``.
    """
    asked = len(queries) if positions is None else len(positions)
    if not asked or not len(gallery):
        return None
    ranks = rank_positives(queries, gallery, positions, progress)
    if not len(ranks):
        return None
    return summarise(direction, ranks, asked, int(np.sum(~np.isin(gallery.rows, queries.rows))), samples, seed), ranks


def summarise(direction: Direction, ranks: Ranks, asked: int, gallery_only: int, samples: int, seed: int) -> Retrieval:
    """Counts and intervals from ranks; of ``asked`` queries those that have no positive are not among the ranks."""
    curve = [k for k in CURVE_AT if k in RECALL_AT or k < ranks.gallery]
    hits = {k: ranks.hits(k) for k in curve}
    rank = ranks.expected_rank()
    reciprocal = 1 / rank
    recalls = mean_intervals(np.stack([hits[k] for k in RECALL_AT], axis=1), ranks.rows, samples, seed)
    intervals = {f"recall@{k}": interval for k, interval in zip(RECALL_AT, recalls, strict=True)}
    intervals["mean_reciprocal_rank"] = mean_intervals(reciprocal[:, None], ranks.rows, samples, seed)[0]
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
    )
