"""Retrieval from one part of a dataset to another, text to image and image to text first, as the papers of CLIP, Flickr30k
and COCO and CLIP_benchmark define it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.retrieval.draw import Sample, Stratum
from clipmill.evaluation.retrieval.gallery_size import gallery_sizes, recall_in_gallery
from clipmill.evaluation.retrieval.measures import FAMILIES, RECALL_AT
from clipmill.evaluation.retrieval.ranks import Answers, Ranks, rank_positives
from clipmill.evaluation.vectors import Vectors
from clipmill.stage.checkpoints import Checkpoint, no_checkpoints

__all__ = ["Direction", "Rank", "Retrieval", "answerable", "rank_here", "retrieve", "summarise"]

SMALLER_AT = (1, 10)
"""K of the recall in smaller galleries."""
CURVE_AT = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


class Rank(Protocol):
    """Ranks the queries at ``positions``, each of which has a positive; ``progress`` is called with queries just done."""

    def __call__(
        self,
        direction: Direction,
        queries: Vectors,
        gallery: Vectors,
        positions: NDArray[np.int64],
        progress: Callable[[int], object],
    ) -> Ranks: ...


def rank_here(
    direction: Direction,
    queries: Vectors,
    gallery: Vectors,
    positions: NDArray[np.int64],
    progress: Callable[[int], object],
) -> Ranks:
    """In this process, from vectors that are at hand."""
    return rank_positives(queries, gallery, positions, progress)


@dataclass(frozen=True)
class Retrieval:
    """What one direction counts. With several captions per image, t2i asks each caption for its image, i2t each image
    for any one of its captions; scores are inner products of the stored vectors.

    ``hits[K]`` is the number of queries with a positive among the first K. Where items score exactly the same it is an
    expected number, over a random order of them, so that vectors which are all alike score no better than chance.
    ``intervals`` are by the key of the metric, without its direction. ``most_positives`` is the most that any query has,
    and ``smaller[K]`` maps sizes of random galleries to the expected R@K in them. Where not all queries were ranked,
    ``queries`` are those that were, figures are estimates for all ``of`` them, and ``strata`` says how many of how many were
    drawn at each rate; else ``of`` is None.
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
    of: int | None = None
    strata: tuple[Stratum, ...] = ()

    def recall(self, k: int) -> float:
        """R@K, for every K of the curve."""
        return self.hits[k] / self.queries

    def true_recall(self, k: int) -> float:
        """The share of a query's positives among the first K, mean over queries."""
        return self.intervals[f"true_recall@{k}"].value

    @property
    def figures(self) -> list[Figure]:
        """All metrics of the direction. Where queries were drawn, definitions say so."""
        found = [metric(f"{self.direction}.{key}").figure(interval) for key, interval in self.intervals.items()]
        if self.of is None:
            return found
        drawn = f" Estimated for all {self.of:,} queries from {self.queries:,} that were drawn; the interval covers the draw."
        return [figure.model_copy(update={"definition": figure.definition + drawn}) for figure in found]


def answerable(queries: Vectors, gallery: Vectors) -> NDArray[np.int64]:
    """The positions of the queries that have a positive: a gallery item of their row."""
    return np.flatnonzero(Answers.of(gallery).stretches(queries.rows)[1] > 0)


def retrieve(
    direction: Direction,
    queries: Vectors,
    gallery: Vectors,
    *,
    positions: NDArray[np.int64] | None = None,
    sample: Sample | None = None,
    rank: Rank = rank_here,
    samples: int = 1000,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
    checkpoint: Checkpoint = no_checkpoints,
) -> tuple[Retrieval, Ranks] | None:
    """Ranks queries against the whole gallery; None when none has a positive.

    A positive is a gallery item of the query's row. A query without one is counted in ``without_positive`` and not
    ranked; gallery items that are no query's positive compete like the others and are counted in ``gallery_only``.
    ``positions`` are those of `answerable`, where they are known already; of them a ``sample`` is ranked, or all. Ranks go
    through ``checkpoint``, and then the result; ``progress`` is called with queries just done, now or by an earlier start.
    """
    asked = answerable(queries, gallery) if positions is None else positions
    if not len(asked):
        return None
    chosen = asked if sample is None else sample.positions
    reported = 0

    def report(done: int) -> None:
        nonlocal reported
        reported += done
        progress(done)

    found = checkpoint(f"ranks-{direction}", Ranks, lambda: rank(direction, queries, gallery, chosen, report))
    progress(len(found) - reported)
    ranks = found if sample is None else replace(found, weights=sample.weights, of=sample.queries)
    gallery_only = int(np.sum(~np.isin(gallery.rows, queries.rows)))
    without = len(queries) - len(asked)
    result = checkpoint(
        f"retrieval-{direction}",
        Retrieval,
        lambda: summarise(direction, ranks, without, gallery_only, samples, seed, sample),
    )
    return result, ranks


def summarise(
    direction: Direction,
    ranks: Ranks,
    without_positive: int,
    gallery_only: int,
    samples: int,
    seed: int,
    sample: Sample | None = None,
) -> Retrieval:
    """Counts and intervals from ranks: those of all queries with a positive, or of a ``sample`` of them."""
    intervals: dict[str, Interval] = {}
    for family in FAMILIES:
        intervals |= family.intervals(ranks, samples, seed)
    return Retrieval(
        direction=direction,
        queries=len(ranks),
        gallery=ranks.gallery,
        without_positive=without_positive,
        gallery_only=gallery_only,
        ties=int(np.sum(ranks.tied > 0)),
        hits={k: _hits(ranks, k) for k in CURVE_AT if k in RECALL_AT or k < ranks.gallery},
        intervals=intervals,
        most_positives=int(ranks.positives.max()),
        smaller={
            k: {size: ranks.mean(recall_in_gallery(ranks, size, k)) for size in gallery_sizes(ranks.gallery)}
            for k in SMALLER_AT
        },
        of=sample.queries if sample else None,
        strata=sample.strata if sample else (),
    )


def _hits(ranks: Ranks, k: int) -> float:
    """Queries with a positive among the first ``k``; of a sample as many as its weights come to."""
    found = ranks.hits(k)
    return float(found.sum()) if ranks.weights is None else ranks.mean(found) * len(ranks)
