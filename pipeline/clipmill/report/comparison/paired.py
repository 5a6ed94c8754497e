"""The difference of two models on the same queries, with an interval and a p-value that resample images, not captions.

Both models are drawn with the same images each time (the paired bootstrap; Efron and Tibshirani 1993, chapters 13 and
16): what makes an image hard is common to both and cancels out, so much smaller differences show than between two separate
intervals.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import LEVEL
from clipmill.evaluation.statistics.bootstrap import (
    draw_outcomes,
    median,
    resampled_means,
    resampled_medians,
    sum_by_image,
)

_TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True)
class Difference:
    """A figure of two models over the same ``n`` queries, second less first, its 95% interval and two-sided p-value.

    ``p`` is twice the share of resamples on the other side of zero, one counted more for the data themselves (Davison
    and Hinkley 1997, section 4.2.1), so it is at least 2 / (samples + 1).
    """

    first: float
    second: float
    low: float
    high: float
    p: float
    n: int

    @property
    def value(self) -> float:
        """Second less first."""
        return self.second - self.first


def mean_differences(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    images: NDArray[np.int64],
    samples: int,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
    *,
    proportions: bool,
) -> list[Difference]:
    """The differences of the means of each column of (q, m) values; ``images`` (q,) names the image of each query, ``weights``
    (q,) are of queries that were drawn at several rates.

    Where ``proportions`` differ alike for every image a resample cannot vary; then the interval is as wide as an image that
    differs otherwise could go unseen (Clopper and Pearson 1934).
    """
    change = second - first
    resampled, found = _resampled_changes(change, images, samples, seed, weights), []
    count = len(np.unique(images))
    for column in range(change.shape[1]):
        margin = 1 - _TAIL ** (1 / count) if proportions and np.ptp(change[:, column]) == 0 else None
        means = _mean(first[:, column], weights), _mean(second[:, column], weights)
        found.append(_difference(means, resampled[:, column], len(change), margin))
    return found


def _resampled_changes(
    change: NDArray[np.float64],
    images: NDArray[np.int64],
    samples: int,
    seed: int,
    weights: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Means (samples, m) of the columns of ``change`` (q, m), whole images drawn with replacement."""
    if weights is not None:
        return resampled_means(change, images, samples, seed, weights)
    outcomes, occurrences = np.unique(sum_by_image(change, images), axis=0, return_counts=True)
    totals = [drawn @ outcomes for drawn in draw_outcomes(occurrences, samples, seed)]
    summed = np.concatenate([np.empty((0, outcomes.shape[1])), *totals])
    means: NDArray[np.float64] = summed[:, 1:] / summed[:, :1]
    return means


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> float:
    return float(values.mean()) if weights is None else float(np.average(values, weights=weights))


def median_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    images: NDArray[np.int64],
    samples: int,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> Difference:
    """The difference of the medians of (q,) values; fewer samples of very many queries."""
    medians = resampled_medians([first, second], images, samples, 1000, seed, weights)
    values = median(first, weights), median(second, weights)
    return _difference(values, medians[:, 1] - medians[:, 0], len(first), None)


def class_recall_difference(
    labels: NDArray[np.int64], first: NDArray[np.float64], second: NDArray[np.float64], samples: int, seed: int = 0
) -> Difference:
    """The difference of the mean over classes of each class's mean of (q,) hits; every query is an image of its own.

    A class that a resample leaves out does not count in it.
    """
    classes, label = np.unique(labels, return_inverse=True)
    cells, occurrences = np.unique(np.column_stack([label, first, second]), axis=0, return_counts=True)
    starts = np.searchsorted(cells[:, 0], np.arange(len(classes)))

    def means(drawn: NDArray[np.int64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
        support, right = np.add.reduceat(drawn, starts, axis=1), np.add.reduceat(drawn * hits, starts, axis=1)
        recall = np.divide(right, support, out=np.zeros(right.shape), where=support > 0)
        return np.asarray(recall.sum(axis=1) / np.sum(support > 0, axis=1))

    draws = [
        means(drawn, cells[:, 2]) - means(drawn, cells[:, 1]) for drawn in draw_outcomes(occurrences, samples, seed)
    ]
    change = second - first
    margin = 1 - _TAIL ** (1 / len(label)) if np.ptp(change) == 0 else None
    values = [float(means(occurrences[None], cells[:, column])[0]) for column in (1, 2)]
    return _difference((values[0], values[1]), np.concatenate(draws) if draws else np.empty(0), len(label), margin)


def _difference(
    values: tuple[float, float], resampled: NDArray[np.float64], n: int, margin: float | None
) -> Difference:
    first, second = values
    value = second - first
    if margin is not None:
        low, high = max(-1.0, value - margin), min(1.0, value + margin)
        p = 1.0 if low <= 0 <= high else 2 / (len(resampled) + 1)
        return Difference(first, second, low, high, p, n)
    if not len(resampled):
        return Difference(first, second, value, value, 1.0, n)
    bounds = np.quantile(resampled, [_TAIL, 1 - _TAIL])
    beyond = 1 + min(int(np.sum(resampled <= 0)), int(np.sum(resampled >= 0)))
    return Difference(first, second, float(bounds[0]), float(bounds[1]), min(1.0, 2 * beyond / (len(resampled) + 1)), n)
