"""One metric query by query: what slices group, and what variations of the same queries are compared in."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, Metric
from clipmill.evaluation.statistics.bootstrap import mean_intervals, share_intervals
from clipmill.evaluation.statistics.clustered import clustered_mean

_CHANGE = (
    "How much it is higher than without the variation, on the same queries: paired differences, images resampled. "
)


@dataclass(frozen=True)
class ByQuery:
    """``values`` float64 (q,), whose mean is the figure, and ``rows`` int64 (q,) of the queries' images; q ≥ 1. ``weights``
    float64 (q,) are those of queries that were drawn at several rates."""

    metric: Metric
    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None

    def take(self, chosen: NDArray[np.bool_]) -> "ByQuery":
        """The same metric over some of the queries."""
        weights = None if self.weights is None else self.weights[chosen]
        return ByQuery(self.metric, self.rows[chosen], self.values[chosen], weights)

    def interval(self) -> Interval:
        """The mean."""
        if self.metric.unit == "proportion":
            return share_intervals(self.values[:, None], self.rows, self.weights)[0]
        interval = clustered_mean(self.values, self.rows, self.weights)
        assert interval is not None  # there is a query
        return interval

    @property
    def figure(self) -> Figure:
        """The mean as a figure."""
        return self.metric.figure(self.interval())

    def change_from(self, before: "ByQuery", samples: int, seed: int) -> Figure:
        """How much higher the mean is than ``before`` on the same queries in the same order; the interval is that of the
        paired differences."""
        metric = replace(
            self.metric,
            key=f"{self.metric.key}_change",
            title=f"{self.metric.title}, change",
            definition=_CHANGE + self.metric.definition,
        )
        differences = (self.values - before.values)[:, None]
        return metric.figure(mean_intervals(differences, self.rows, samples, seed, self.weights)[0])
