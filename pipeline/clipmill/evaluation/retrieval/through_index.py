"""Recall of the model as a user of the index gets it, beside exact search on the same queries."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.retrieval.ceiling import hash_vectors
from clipmill.evaluation.retrieval.measures import RECALL_AT, hit_rate
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.statistics.bootstrap import LEVEL, mean_intervals
from clipmill.evaluation.vectors import Vectors

_DEFINITIONS = {
    "exact": "Share of queries with a positive among the first K results of exact search over the stored vectors.",
    "index": "Share of the same queries with a positive among the first K results of the index at its operating point.",
    "less": "R@K through the index less R@K by exact search; the interval resamples images and keeps each query's pair.",
}
"""The definitions of the three figures for each K, by what their key begins with."""



@dataclass(frozen=True)
class Asked:
    """Queries drawn from those that were ranked exactly.

    ``rows`` int64 (q,) and ``values`` float16 (q, d) are theirs; ``hits`` float64 (q, 3) is whether exact search puts a
    positive among the first 1, 5 and 10.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float16]
    hits: NDArray[np.float64]


@dataclass(frozen=True)
class ThroughIndex:
    """R@K by exact search, through the index, and the difference through − exact, by K, on the same ``queries``."""

    queries: int
    exact: dict[int, Interval]
    through: dict[int, Interval]
    difference: dict[int, Interval]

    @property
    def figures(self) -> list[Figure]:
        """For each K the recall by exact search, the recall through the index, and the difference."""
        columns = {"exact": self.exact, "index": self.through, "less": self.difference}
        return [
            replace(hit_rate(k), key=f"index.{name}_recall@{k}", definition=definition).figure(columns[name][k])
            for k in self.exact
            for name, definition in _DEFINITIONS.items()
        ]


def draw_asked(ranks: Ranks, queries: Vectors, count: int, seed: int = 0) -> Asked:
    """``count`` ranked queries at random, or all where there are fewer."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(ranks))[:count])
    hits = np.stack([ranks.hits(k)[drawn] for k in RECALL_AT], axis=1)
    return Asked(ranks.rows[drawn], np.asarray(queries.values[ranks.positions[drawn]]), hits)


def measure_through_index(
    asked: Asked,
    tuned_on: NDArray[np.float32],
    search_rows: Callable[[NDArray[np.float32], int], NDArray[np.int64]],
    samples: int = 1000,
    seed: int = 0,
) -> ThroughIndex | None:
    """Asks the index all queries but those it was tuned on; None where no other is left.

    ``search_rows`` gives the rows (q, k) of the results of queries (q, d), best first, −1 where there is none.
    ``tuned_on`` (t, d) are the queries that its operating point was chosen with.
    """
    unseen = np.flatnonzero(~np.isin(hash_vectors(asked.values), hash_vectors(tuned_on.astype(np.float16))))
    if not len(unseen):
        return None
    rows = asked.rows[unseen]
    right = search_rows(asked.values[unseen].astype(np.float32), max(RECALL_AT)) == rows[:, None]
    through = np.stack([right[:, :k].any(axis=1) for k in RECALL_AT], axis=1).astype(np.float64)
    exact = asked.hits[unseen]
    difference = mean_intervals(through - exact, rows, samples, seed, proportions=False)
    return ThroughIndex(
        queries=len(unseen),
        exact=dict(zip(RECALL_AT, mean_intervals(exact, rows, samples, seed), strict=True)),
        through=dict(zip(RECALL_AT, mean_intervals(through, rows, samples, seed), strict=True)),
        difference={
            k: _widened(interval, len(np.unique(rows)) if not (through - exact)[:, column].any() else 0)
            for column, (k, interval) in enumerate(zip(RECALL_AT, difference, strict=True))
        },
    )


def _widened(interval: Interval, images: int) -> Interval:
    """Widens the interval of no difference at all over ``images`` images by what may still go unseen (Clopper and Pearson
    1934, one trial per image), as no resample can vary; leaves any other, for which ``images`` is 0."""
    if not images:
        return interval
    margin = 1 - ((1 - LEVEL) / 2) ** (1 / images)
    return interval.model_copy(update={"low": -margin, "high": margin})
