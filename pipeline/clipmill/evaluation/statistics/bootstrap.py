"""95% intervals by resampling images, not captions: the captions of one image succeed and fail together.

Those of shares follow from a formula instead (`clipmill.core.intervals`), as resampling is too sure near 0 and 1.
Images whose queries came out alike are interchangeable, so what is drawn of few images is how often each outcome occurs.

``weights`` (q,) are those of queries that were drawn at several rates: how many queries of the dataset each stands for. They
are alike throughout an image, and those of one weight are a stratum. A resample then repeats what was done: the strata of the
dataset come out larger or smaller, as its images are a random choice, and of each as many images are drawn as were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import LEVEL, drawn_proportion_interval, proportion_interval
from clipmill.core.manifests import Interval

_CELLS = 20_000_000
"""Numbers that a batch of resamples may hold."""
_ONE_BY_ONE = 50_000
"""More images than this are drawn one by one: of so many, few have the same outcome."""


def mean_intervals(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    samples: int,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> list[Interval]:
    """The mean of each column of ``values`` (q, m) over queries, with its percentile interval.

    ``rows`` (q,) names the image of each query. Whole images are drawn with replacement, ``samples`` times (the cluster
    bootstrap; Field and Welsh 2007).
    """
    resampled = resampled_means(values, rows, samples, seed, weights)
    means = values.mean(axis=0) if weights is None else np.average(values, axis=0, weights=weights)
    return [
        percentile_interval(float(mean), drawn if samples else np.array([mean]), len(values))
        for mean, drawn in zip(means, resampled.T, strict=True)
    ]


def share_intervals(
    values: NDArray[np.float64], rows: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> list[Interval]:
    """The mean of each column of ``values`` (q, m), from 0 to 1, over queries with its interval (`proportion_interval`)."""
    if weights is not None:
        return [drawn_proportion_interval(column, rows, weights) for column in values.T]
    return [proportion_interval(column, rows) for column in values.T]


def resampled_means(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    samples: int,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The means (samples, m) of the columns of ``values`` (q, m) over queries, whole images drawn with replacement."""
    outcomes = sum_by_image(values, rows)
    if weights is None:
        summed = _resampled_totals(outcomes, samples, seed)
    else:
        strata = strata_of(rows, weights)
        sizes = resampled_sizes(strata, samples, seed)
        summed = np.zeros((samples, outcomes.shape[1]))
        for number, stratum in enumerate(strata):
            totals = _resampled_totals(outcomes[stratum.images], samples, [seed, number])
            summed += (stratum.weight * sizes[:, number])[:, None] * totals
    means: NDArray[np.float64] = summed[:, 1:] / summed[:, :1]
    return means


def _resampled_totals(outcomes: NDArray[np.float64], samples: int, seed: int | list[int]) -> NDArray[np.float64]:
    """Sums (samples, c) of the rows of ``outcomes`` (images, c), as many drawn with replacement as there are."""
    images = len(outcomes)
    if images > _ONE_BY_ONE:
        random = np.random.default_rng(seed)
        drawn = (np.bincount(random.integers(images, size=images), minlength=images) for _ in range(samples))
        totals = [(counts @ outcomes)[None] for counts in drawn]
    else:
        outcomes, occurrences = np.unique(outcomes, axis=0, return_counts=True)
        totals = [counts @ outcomes for counts in draw_outcomes(occurrences, samples, seed)]
    return np.concatenate([np.empty((0, outcomes.shape[1])), *totals])


@dataclass(frozen=True)
class DrawnStratum:
    """Images (numbers among the distinct ones, rising) whose queries have one ``weight``."""

    weight: float
    images: NDArray[np.int64]


def strata_of(rows: NDArray[np.int64], weights: NDArray[np.float64]) -> list[DrawnStratum]:
    """The strata of queries whose images are ``rows`` (q,), in rising order of weight."""
    of_image = weights[np.unique(rows, return_index=True)[1]]
    return [DrawnStratum(float(weight), np.flatnonzero(of_image == weight)) for weight in np.unique(of_image)]


def resampled_sizes(strata: Sequence[DrawnStratum], samples: int, seed: int) -> NDArray[np.float64]:
    """How much larger than it is each stratum of the dataset comes out, where all its images are drawn with replacement:
    float64 (samples, strata)."""
    sizes = np.array([stratum.weight * len(stratum.images) for stratum in strata])
    random = np.random.default_rng([seed, len(strata)])
    drawn: NDArray[np.float64] = random.multinomial(round(float(sizes.sum())), sizes / sizes.sum(), samples) / sizes
    return drawn


def sum_by_image(values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each image the number of its queries, then the sum of each column of ``values`` (q, m): (images, 1 + m)."""
    images, image_of = np.unique(rows, return_inverse=True)
    sums = [np.bincount(image_of, column, len(images)) for column in values.T]
    return np.column_stack([np.bincount(image_of, minlength=len(images)).astype(np.float64), *sums])


def draw_outcomes(
    occurrences: NDArray[np.int64] | NDArray[np.float64], samples: int, seed: int | list[int]
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


def median_interval(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    samples: int,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> Interval:
    """The median of ``values`` (q,) with its percentile interval, whole images resampled; fewer samples of very many."""
    value = median(values, weights)
    medians = resampled_medians([values], rows, samples, 100, seed, weights)[:, 0]
    return percentile_interval(value, medians if len(medians) else np.array([value]), len(values))


def median(values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> float:
    """The median of ``values`` (q,); with ``weights`` the least value that half of the weight does not exceed."""
    if weights is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def resampled_medians(
    columns: Sequence[NDArray[np.float64]],
    rows: NDArray[np.int64],
    samples: int,
    least: int,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The medians (samples, m) of m columns (q,) over the same draws of whole images; of very many queries fewer samples
    are drawn, but ``least`` if that many are asked for."""
    images, image_of = np.unique(rows, return_inverse=True)
    orders = [np.argsort(values, kind="stable") for values in columns]
    sides = [(values[order], image_of[order]) for values, order in zip(columns, orders, strict=True)]
    medians = np.empty((min(samples, max(least, 10 * _CELLS // len(rows))), len(columns)))
    draws = _image_counts(len(images), seed) if weights is None else _drawn_counts(rows, weights, len(medians), seed)
    for sample, drawn in zip(medians, draws, strict=False):
        for column, (ordered, owners) in enumerate(sides):
            below = np.cumsum(drawn[owners])
            sample[column] = ordered[np.searchsorted(below, below[-1] / 2)]
    return medians


def _image_counts(images: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Without end: how often each image is drawn, of as many draws as there are images."""
    random = np.random.default_rng(seed)
    while True:
        yield np.bincount(random.integers(images, size=images), minlength=images)


def _drawn_counts(
    rows: NDArray[np.int64], weights: NDArray[np.float64], samples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """The same by strata, each image times what it stands for."""
    random, strata = np.random.default_rng(seed), strata_of(rows, weights)
    counts = np.empty(sum(len(stratum.images) for stratum in strata))
    for sizes in resampled_sizes(strata, samples, seed):
        for size, stratum in zip(sizes, strata, strict=True):
            n = len(stratum.images)
            counts[stratum.images] = size * stratum.weight * np.bincount(random.integers(n, size=n), minlength=n)
        yield counts
