"""The difference of two models on the same queries, with an interval and a p-value that resample images, not captions.

Both models are drawn with the same images each time (the paired bootstrap; Efron and Tibshirani 1993, chapters 13 and
16): what makes an image hard is common to both and cancels out, so far smaller differences become visible than between
two intervals.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.statistics.bootstrap import LEVEL

_CELLS = 20_000_000
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
    *,
    proportions: bool,
) -> list[Difference]:
    """The differences of the means of each column of (q, m) values; ``images`` (q,) names the image of each query.

    Images whose queries came out alike are interchangeable, so what is drawn is how often each outcome occurs. Where
    ``proportions`` differ alike for every image a resample cannot vary; then the interval is as wide as an image that
    differs otherwise could go unseen (Clopper and Pearson 1934).
    """
    number, image_of = _numbered(images)
    change = second - first
    sums = np.stack([np.bincount(image_of, column, number) for column in change.T], axis=1)
    counts = np.bincount(image_of, minlength=number).astype(np.float64)
    outcomes, occurrences = np.unique(np.column_stack([counts, sums]), axis=0, return_counts=True)
    draws = []
    for drawn in _draws(occurrences, number, samples, seed):
        totals = drawn @ outcomes
        draws.append(totals[:, 1:] / totals[:, :1])
    resampled = np.concatenate(draws) if draws else np.empty((0, change.shape[1]))
    found = []
    for column in range(change.shape[1]):
        margin = 1 - _TAIL ** (1 / number) if proportions and np.ptp(change[:, column]) == 0 else None
        means = float(first[:, column].mean()), float(second[:, column].mean())
        found.append(_difference(means, resampled[:, column], len(change), margin))
    return found


def median_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], images: NDArray[np.int64], samples: int, seed: int = 0
) -> Difference:
    """The difference of the medians of (q,) values; fewer samples of very many queries."""
    number, image_of = _numbered(images)
    orders = [np.argsort(values, kind="stable") for values in (first, second)]
    ordered = [values[order] for values, order in zip((first, second), orders, strict=True)]
    owners = [image_of[order] for order in orders]
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(min(samples, max(1000, 10 * _CELLS // len(first)))):
        drawn = np.bincount(random.integers(number, size=number), minlength=number)
        medians = []
        for values, owner in zip(ordered, owners, strict=True):
            below = np.cumsum(drawn[owner])
            medians.append(values[np.searchsorted(below, below[-1] / 2)])
        draws.append(medians[1] - medians[0])
    return _difference((float(np.median(first)), float(np.median(second))), np.array(draws), len(first), None)


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
        means(drawn, cells[:, 2]) - means(drawn, cells[:, 1])
        for drawn in _draws(occurrences, len(label), samples, seed)
    ]
    change = second - first
    margin = 1 - _TAIL ** (1 / len(label)) if np.ptp(change) == 0 else None
    values = [float(means(occurrences[None], cells[:, column])[0]) for column in (1, 2)]
    return _difference((values[0], values[1]), np.concatenate(draws) if draws else np.empty(0), len(label), margin)


def _numbered(images: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    found, number = np.unique(images, return_inverse=True)
    return len(found), number


def _draws(occurrences: NDArray[np.int64], images: int, samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each outcome occurs when as many images are drawn with replacement, ``samples`` times, in batches."""
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // len(occurrences))
    shares = occurrences / images
    for start in range(0, samples, step):
        yield random.multinomial(images, shares, min(step, samples - start))


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
