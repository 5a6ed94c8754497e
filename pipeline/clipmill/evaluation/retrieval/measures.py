"""The metrics of retrieval: for each its definition, and its value for every query, from the ranks of the positives.

Relevance is binary. Items that tie stand in random order, and each measure is its exact expectation over that order, in
closed form (McSherry and Najork 2008); where nothing ties it is what ``trec_eval`` computes. A new metric is a function of
`Ranks` and an entry in `FAMILIES`: every report then has it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Metric
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.statistics.bootstrap import mean_intervals, median_interval

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
    return gain / gained[np.minimum(ranks.positives, k)]


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
    reciprocals[several] = _harmonic(higher[several] + items[several]) - _harmonic(higher[several])
    precision = others * items + (before + 1 - others * (higher + 1)) * reciprocals
    return ranks.sum_levels(positives / items * precision) / ranks.positives


def _harmonic(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 + 1/2 + … + 1/n: summed up to 32, then by the Euler-Maclaurin series, which is right to 10⁻¹⁶ from there on."""
    small = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 33))])
    large = np.maximum(n, 32).astype(np.float64)
    series = np.log(large) + np.euler_gamma + 1 / (2 * large) - 1 / (12 * large**2) + 1 / (120 * large**4)
    return np.where(n <= 32, small[np.minimum(n, 32)], series - 1 / (252 * large**6))


@dataclass(frozen=True)
class QueryMetric:
    """A metric of one direction, and its value for each query, float64 (q,), from their ranks."""

    metric: Metric
    of: Callable[[Ranks], NDArray[np.float64]]


Estimate = Callable[[NDArray[np.float64], NDArray[np.int64], int, int], list[Interval]]
"""Values (q, m) of the queries, the rows (q,) of their images, samples and seed to an interval per column."""


@dataclass(frozen=True)
class Family:
    """Metrics whose intervals come from the same resamples of the images, by ``estimate``."""

    metrics: tuple[QueryMetric, ...]
    estimate: Estimate = mean_intervals

    def intervals(self, ranks: Ranks, samples: int, seed: int) -> dict[str, Interval]:
        """Each metric with its 95% interval, by key."""
        values = np.stack([metric.of(ranks) for metric in self.metrics], axis=1)
        found = self.estimate(values, ranks.rows, samples, seed)
        return {metric.metric.key: interval for metric, interval in zip(self.metrics, found, strict=True)}


def hit_rate(k: int) -> Metric:
    """R@K, without its direction."""
    return Metric(
        f"recall@{k}",
        f"R@{k}",
        "proportion",
        "Hit rate: share of queries for which at least one positive is among the first K results.",
    )


def hit_rate_of(direction: str, k: int) -> Metric:
    """R@K of one direction, which its title names: for tables in which both stand side by side."""
    return replace(hit_rate(k).of_group(direction), title=f"{direction} R@{k}")


_HITS = Family(tuple(QueryMetric(hit_rate(k), partial(Ranks.hits, k=k)) for k in RECALL_AT))
_MEDIAN_RANK = Family(
    (
        QueryMetric(
            Metric(
                "median_rank",
                "Median rank",
                "rank",
                "The place, from 1, at which the first positive comes for the middle query.",
                higher_is_better=False,
            ),
            Ranks.expected_rank,
        ),
    ),
    lambda values, rows, samples, seed: [median_interval(values[:, 0], rows, samples, seed)],
)
_MEAN_RANK = Family(
    (
        QueryMetric(
            Metric(
                "mean_rank",
                "Mean rank",
                "rank",
                "Mean over queries of the place, from 1, at which the first positive comes.",
                higher_is_better=False,
            ),
            Ranks.expected_rank,
        ),
    ),
    partial(mean_intervals, proportions=False),
)
_OVER_POSITIVES = Family(
    (
        *(
            QueryMetric(
                Metric(
                    f"true_recall@{k}",
                    f"True recall@{k}",
                    "proportion",
                    "Share of a query's positives that are among the first K results, mean over queries; R@K asks for "
                    "one only.",
                ),
                partial(share_found, k=k),
            )
            for k in RECALL_AT
        ),
        QueryMetric(
            Metric(
                f"ndcg@{NDCG_AT}",
                f"nDCG@{NDCG_AT}",
                "ratio",
                f"Discounted gain of the first {NDCG_AT} results, where a positive at place r gains 1 / log₂(1 + r), "
                "over that of all positives in the first places; mean over queries.",
            ),
            partial(ndcg, k=NDCG_AT),
        ),
        QueryMetric(
            Metric(
                "mean_average_precision",
                "mAP",
                "ratio",
                "Mean over a query's positives of the share of positives among the results up to it, mean over queries "
                "(mAP).",
            ),
            average_precision,
        ),
        QueryMetric(
            Metric(
                "mean_reciprocal_rank",
                "MRR",
                "ratio",
                "Mean over queries of 1 / rank of the first positive: 1 when every query has a positive in first place.",
            ),
            lambda ranks: 1 / ranks.expected_rank(),
        ),
    )
)
FAMILIES = (_HITS, _MEDIAN_RANK, _MEAN_RANK, _OVER_POSITIVES)
"""Every metric of a direction, in the order of the reports."""
