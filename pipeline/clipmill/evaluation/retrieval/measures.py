"""The metrics of retrieval: the value of each for every query, from the ranks of its positives.

Relevance is binary. Items that tie stand in random order, and each measure is its exact expectation over that order, in
closed form (McSherry and Najork 2008); where nothing ties it is what ``trec_eval`` computes. A new metric is a function of
`Ranks`, its entry in `FAMILIES` and one in ``metrics.yaml``: every report then has it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Metric, metric
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.reciprocal import harmonic, reciprocal_rank
from clipmill.evaluation.statistics.bootstrap import mean_intervals, median_interval, share_intervals

RECALL_AT = (1, 5, 10)
NDCG_AT = 10


def share_found(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """For each query the share of its positives among the first ``k``: float64 (q,), trec_eval's recall_k."""
    places = np.clip(k - ranks.level_higher, 0, ranks.level_items)
    return ranks.sum_levels(ranks.level_positives * places / ranks.level_items) / ranks.positives


def ndcg(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """For each query the discounted cumulative gain of the first ``k`` over that of a perfect order: float64 (q,).

    A positive at place r gains 1 / log₂(1 + r) (Järvelin and Kekäläinen 2002; trec_eval's ndcg_cut_k).
    """
    gained = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    first = np.minimum(ranks.level_higher, k)
    last = np.minimum(ranks.level_higher + ranks.level_items, k)
    gain = ranks.sum_levels(ranks.level_positives * (gained[last] - gained[first]) / ranks.level_items)
    result: NDArray[np.float64] = gain / gained[np.minimum(ranks.positives, k)]
    return result


def average_precision(ranks: Ranks) -> NDArray[np.float64]:
    """For each query the mean over its positives of the precision at their places: float64 (q,), trec_eval's map."""
    higher, items, positives = ranks.level_higher, ranks.level_items, ranks.level_positives
    # Positives that score higher than each level.
    total = np.cumsum(positives)
    before = total - positives - np.repeat((total - positives)[ranks.starts], ranks.levels)
    # A place among tied items holds a positive with probability positives / items; each earlier one then with `others`.
    others = (positives - 1) / np.maximum(items - 1, 1)
    # Sum of 1 / place over the places of each level: one term, or a difference of harmonic numbers.
    reciprocals = 1 / (higher + 1.0)
    several = np.flatnonzero(items > 1)
    reciprocals[several] = harmonic(higher[several] + items[several]) - harmonic(higher[several])
    precision = others * items + (before + 1 - others * (higher + 1)) * reciprocals
    return ranks.sum_levels(positives / items * precision) / ranks.positives


Values = Callable[[Ranks], NDArray[np.float64]]
"""The ranks of q queries to a value for each, float64 (q,)."""


Estimate = Callable[[NDArray[np.float64], NDArray[np.int64], int, int, NDArray[np.float64] | None], list[Interval]]
"""Values (q, m), the images (q,) of the queries, resamples, seed, and the queries' weights (q,) to an interval a metric."""


@dataclass(frozen=True)
class Family:
    """Metrics of a direction, by key, whose intervals come from ``estimate``: from the same resamples of the images, where it
    draws any. By default the values are shares, from 0 to 1."""

    metrics: dict[str, Values]
    estimate: Estimate = lambda values, rows, samples, seed, weights: share_intervals(values, rows, weights)

    def intervals(self, ranks: Ranks, samples: int, seed: int) -> dict[str, Interval]:
        """Each metric with its 95% interval."""
        values = np.stack([values(ranks) for values in self.metrics.values()], axis=1)
        return dict(zip(self.metrics, self.estimate(values, ranks.rows, samples, seed, ranks.weights), strict=True))


FAMILIES = (
    Family({f"recall@{k}": partial(Ranks.hits, k=k) for k in RECALL_AT}),
    Family(
        {"median_rank": Ranks.expected_rank},
        lambda values, rows, samples, seed, weights: [median_interval(values[:, 0], rows, samples, seed, weights)],
    ),
    Family({"mean_rank": Ranks.expected_rank}, mean_intervals),
    Family(
        {
            **{f"true_recall@{k}": partial(share_found, k=k) for k in RECALL_AT},
            f"ndcg@{NDCG_AT}": partial(ndcg, k=NDCG_AT),
            "mean_average_precision": average_precision,
            "mean_reciprocal_rank": reciprocal_rank,
        }
    ),
)
"""Every metric of a direction, in the order of the reports; ``metrics.yaml`` says what each is."""


def hit_rate_of(direction: str, k: int) -> Metric:
    """R@K of one direction, which its title names: for tables in which both stand side by side."""
    return replace(metric(f"{direction}.recall@{k}"), title=f"{direction} R@{k}")
