"""One figure query by query: what slices part and what variations of the same queries are compared in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.statistics.bootstrap import mean_intervals
from clipmill.evaluation.statistics.clustered import clustered_mean


@dataclass(frozen=True)
class ByQuery:
    """``values`` (q,), whose mean is the figure, and ``rows`` (q,) of the queries' images; q ≥ 1.

    ``proportions`` are hits (0, 1, or expected hits between them) and not cosines.
    """

    name: str
    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    proportions: bool = True

    def take(self, chosen: NDArray[np.bool_]) -> "ByQuery":
        """The same figure over some of the queries."""
        return ByQuery(self.name, self.rows[chosen], self.values[chosen], self.proportions)

    def interval(self, samples: int, seed: int) -> Interval:
        """The figure, with images resampled: in so many samples for hits, in a formula for cosines."""
        if self.proportions:
            return mean_intervals(self.values[:, None], self.rows, samples, seed)[0]
        interval = clustered_mean(self.values, self.rows)
        assert interval is not None  # there is a query
        return interval

    def change_from(self, before: "ByQuery", samples: int, seed: int) -> Interval:
        """How much higher the figure is than ``before`` on the same queries in the same order, with the interval of the
        paired differences."""
        differences = (self.values - before.values)[:, None]
        return mean_intervals(differences, self.rows, samples, seed, proportions=False)[0]
