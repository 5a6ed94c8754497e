"""The model's recall through an index, compared with exact search on the same queries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import LEVEL
from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import ThroughPart
from clipmill.evaluation.retrieval.ceiling import hash_vectors
from clipmill.evaluation.retrieval.draw import evenly
from clipmill.evaluation.retrieval.measures import RECALL_AT
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.retrieval import Direction
from clipmill.evaluation.statistics.bootstrap import mean_intervals, share_intervals
from clipmill.evaluation.vectors import Vectors


@dataclass(frozen=True)
class Asked:
    """Queries drawn from those that were ranked exactly.

    ``rows`` int64 (q,) and ``values`` float16 (q, d) are theirs; ``hits`` float64 (q, 3) is whether exact search puts a
    positive among the first 1, 5 and 10.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float16]
    hits: NDArray[np.float64]


def draw_asked(ranks: Ranks, queries: Vectors, count: int, seed: int = 0) -> Asked:
    """``count`` ranked queries at random, or all where there are fewer; each of the dataset with the same chance."""
    alike = evenly(ranks.weights, len(ranks), seed)
    drawn = alike[np.sort(np.random.default_rng(seed).permutation(len(alike))[:count])]
    hits = np.stack([ranks.hits(k)[drawn] for k in RECALL_AT], axis=1)
    return Asked(ranks.rows[drawn], np.asarray(queries.values[ranks.positions[drawn]]), hits)


def measure_through_index(
    direction: Direction,
    asked: Asked,
    tuned_on: NDArray[np.float32],
    search_rows: Callable[[NDArray[np.float32], int], NDArray[np.int64]],
    samples: int = 1000,
    seed: int = 0,
) -> ThroughPart | None:
    """Asks the index all queries but those it was tuned on; None where no other is left.

    Gives R@K by exact search and through the index, and the difference through − exact. ``search_rows`` gives the rows
    (q, k) of the results of queries (q, d), best first, −1 where there is none.
    ``tuned_on`` (t, d) are the queries that its operating point was chosen with.
    """
    unseen = np.flatnonzero(~np.isin(hash_vectors(asked.values), hash_vectors(tuned_on.astype(np.float16))))
    if not len(unseen):
        return None
    rows = asked.rows[unseen]
    right = search_rows(asked.values[unseen].astype(np.float32), max(RECALL_AT)) == rows[:, None]
    through = np.stack([right[:, :k].any(axis=1) for k in RECALL_AT], axis=1).astype(np.float64)
    exact = asked.hits[unseen]
    unchanged = np.logical_not((through - exact).any(axis=0)).tolist()
    columns = {
        "exact": share_intervals(exact, rows),
        "index": share_intervals(through, rows),
        "less": [
            _widened(interval, len(np.unique(rows))) if same else interval
            for interval, same in zip(mean_intervals(through - exact, rows, samples, seed), unchanged, strict=True)
        ],
    }
    figures = [
        metric(f"index.{name}_recall@{k}").figure(intervals[number])
        for number, k in enumerate(RECALL_AT)
        for name, intervals in columns.items()
    ]
    return ThroughPart(direction=direction, queries=len(unseen), figures=figures)


def _widened(interval: Interval, images: int) -> Interval:
    """Widens the interval of no difference at all over ``images`` images by what may still go unseen (Clopper and Pearson
    1934, one trial per image), as no resample can vary."""
    margin = 1 - ((1 - LEVEL) / 2) ** (1 / images)
    return interval.model_copy(update={"low": -margin, "high": margin})
