"""95% intervals by resampling images, not captions: the captions of one image succeed and fail together."""

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval

LEVEL = 0.95
_CELLS = 20_000_000
_ONE_BY_ONE = 50_000
"""More images than this are drawn one by one: of so many, few have the same outcome."""


def mean_intervals(
    values: NDArray[np.float64], rows: NDArray[np.int64], samples: int, seed: int = 0, *, proportions: bool = True
) -> list[Interval]:
    """The mean of each column of ``values`` (q, m) over queries, with its percentile interval.

    ``rows`` (q,) names the image of each query. Whole images are drawn with replacement, ``samples`` times (the cluster
    bootstrap; Field and Welsh 2007). Images whose queries came out alike are interchangeable, so what is drawn of few
    images is how often each outcome occurs. Where ``proportions``
    are all 0 or all 1 a resample cannot vary; then the interval is Clopper and Pearson's (1934), one trial an image.
    """
    resampled = resampled_means(values, rows, samples, seed)
    trials = len(np.unique(rows)) if proportions else None
    means = values.mean(axis=0)
    return [_interval(float(mean), drawn, len(values), trials) for mean, drawn in zip(means, resampled.T, strict=True)]


def resampled_means(
    values: NDArray[np.float64], rows: NDArray[np.int64], samples: int, seed: int = 0
) -> NDArray[np.float64]:
    """The means (samples, m) of the columns of ``values`` (q, m) over queries, whole images drawn with replacement."""
    columns = values.shape[1]
    images, image_of = np.unique(rows, return_inverse=True)
    sums = np.stack([np.bincount(image_of, values[:, column], len(images)) for column in range(columns)], axis=1)
    counts = np.bincount(image_of, minlength=len(images)).astype(np.float64)
    outcomes = np.column_stack([counts, sums])
    random = np.random.default_rng(seed)
    totals = np.empty((samples, columns + 1))
    if len(images) > _ONE_BY_ONE:
        for sample in range(samples):
            totals[sample] = (
                np.bincount(random.integers(len(images), size=len(images)), minlength=len(images)) @ outcomes
            )
    else:
        outcomes, occurrences = np.unique(outcomes, axis=0, return_counts=True)
        step = max(1, _CELLS // len(outcomes))
        for start in range(0, samples, step):
            part = slice(start, min(start + step, samples))
            totals[part] = random.multinomial(len(images), occurrences / len(images), part.stop - start) @ outcomes
    return totals[:, 1:] / totals[:, :1]


def _interval(value: float, resampled: NDArray[np.float64], queries: int, trials: int | None) -> Interval:
    tail = (1 - LEVEL) / 2
    if trials and value in (0.0, 1.0):
        margin = 1 - tail ** (1 / trials)
        return Interval(value=value, low=max(0.0, value - margin), high=min(1.0, value + margin), n=queries)
    if not len(resampled):
        return Interval(value=value, low=value, high=value, n=queries)
    return percentile_interval(value, resampled, queries)


def percentile_interval(value: float, resampled: NDArray[np.float64], queries: int) -> Interval:
    """``value`` with the middle 95% of what resampling gave (at least one)."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=queries)


def median_interval(values: NDArray[np.float64], rows: NDArray[np.int64], samples: int, seed: int = 0) -> Interval:
    """The median of ``values`` (q,) with its percentile interval, whole images resampled; fewer samples of very many."""
    value = float(np.median(values))
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    images, image_of = np.unique(rows, return_inverse=True)
    image_of = image_of[order]
    random = np.random.default_rng(seed)
    medians = []
    for _ in range(min(samples, max(100, 10 * _CELLS // len(values)))):
        drawn = np.bincount(random.integers(len(images), size=len(images)), minlength=len(images))
        below = np.cumsum(drawn[image_of])
        medians.append(ordered[np.searchsorted(below, below[-1] / 2)])
    return percentile_interval(value, np.array(medians or [value]), len(values))
