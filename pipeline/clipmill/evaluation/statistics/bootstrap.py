"""95% intervals by resampling images, not captions: the captions of one image succeed and fail together.

Those of shares follow from a formula instead (`clipmill.core.intervals`), as resampling is too sure near 0 and 1.
Images whose queries came out alike are interchangeable, so what is drawn of few images is how often each outcome occurs.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import LEVEL, proportion_interval
from clipmill.core.manifests import Interval

_CELLS = 20_000_000
"""Numbers that a batch of resamples may hold."""
_ONE_BY_ONE = 50_000
"""More images than this are drawn one by one: of so many, few have the same outcome."""


def mean_intervals(values: NDArray[np.float64], rows: NDArray[np.int64], samples: int, seed: int = 0) -> list[Interval]:
    """The mean of each column of ``values`` (q, m) over queries, with its percentile interval.

    ``rows`` (q,) names the image of each query. Whole images are drawn with replacement, ``samples`` times (the cluster
    bootstrap; Field and Welsh 2007).
    """
    resampled = resampled_means(values, rows, samples, seed)
    return [
        percentile_interval(float(mean), drawn if samples else np.array([mean]), len(values))
        for mean, drawn in zip(values.mean(axis=0), resampled.T, strict=True)
    ]


def share_intervals(values: NDArray[np.float64], rows: NDArray[np.int64]) -> list[Interval]:
    """The mean of each column of ``values`` (q, m), from 0 to 1, over queries with its interval (`proportion_interval`)."""
    return [proportion_interval(column, rows) for column in values.T]


def resampled_means(
    values: NDArray[np.float64], rows: NDArray[np.int64], samples: int, seed: int = 0
) -> NDArray[np.float64]:
    """The means (samples, m) of the columns of ``values`` (q, m) over queries, whole images drawn with replacement."""
    outcomes = sum_by_image(values, rows)
    images = len(outcomes)
    if images > _ONE_BY_ONE:
        random = np.random.default_rng(seed)
        drawn = (np.bincount(random.integers(images, size=images), minlength=images) for _ in range(samples))
        totals = [(counts @ outcomes)[None] for counts in drawn]
    else:
        outcomes, occurrences = np.unique(outcomes, axis=0, return_counts=True)
        totals = [counts @ outcomes for counts in draw_outcomes(occurrences, samples, seed)]
    summed = np.concatenate([np.empty((0, outcomes.shape[1])), *totals])
    means: NDArray[np.float64] = summed[:, 1:] / summed[:, :1]
    return means


def sum_by_image(values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each image the number of its queries, then the sum of each column of ``values`` (q, m): (images, 1 + m)."""
    images, image_of = np.unique(rows, return_inverse=True)
    sums = [np.bincount(image_of, column, len(images)) for column in values.T]
    return np.column_stack([np.bincount(image_of, minlength=len(images)).astype(np.float64), *sums])


def draw_outcomes(
    occurrences: NDArray[np.int64] | NDArray[np.float64], samples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """How often each outcome occurs when images are drawn with replacement, ``samples`` times: batches (b, o).

    ``occurrences`` (o,) is how many images have each outcome, perhaps in expectation; as many as there are are drawn.
    """
    random = np.random.default_rng(seed)
    total = round(float(occurrences.sum()))
    step = max(1, _CELLS // len(occurrences))
    for start in range(0, samples, step):
        yield random.multinomial(total, occurrences / total, min(step, samples - start))


def percentile_interval(value: float, resampled: NDArray[np.float64], queries: int) -> Interval:
    """``value`` with the middle 95% of what resampling gave (at least one)."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=queries)


def median_interval(values: NDArray[np.float64], rows: NDArray[np.int64], samples: int, seed: int = 0) -> Interval:
    """The median of ``values`` (q,) with its percentile interval, whole images resampled; fewer samples of very many."""
    value = float(np.median(values))
    medians = resampled_medians([values], rows, samples, 100, seed)[:, 0]
    return percentile_interval(value, medians if len(medians) else np.array([value]), len(values))


def resampled_medians(
    columns: Sequence[NDArray[np.float64]], rows: NDArray[np.int64], samples: int, least: int, seed: int = 0
) -> NDArray[np.float64]:
    """The medians (samples, m) of m columns (q,) over the same draws of whole images; of very many queries fewer samples
    are drawn, but ``least`` if that many are asked for."""
    images, image_of = np.unique(rows, return_inverse=True)
    orders = [np.argsort(values, kind="stable") for values in columns]
    sides = [(values[order], image_of[order]) for values, order in zip(columns, orders, strict=True)]
    random = np.random.default_rng(seed)
    medians = np.empty((min(samples, max(least, 10 * _CELLS // len(rows))), len(columns)))
    for sample in medians:
        drawn = np.bincount(random.integers(len(images), size=len(images)), minlength=len(images))
        for column, (ordered, owners) in enumerate(sides):
            below = np.cumsum(drawn[owners])
            sample[column] = ordered[np.searchsorted(below, below[-1] / 2)]
    return medians
