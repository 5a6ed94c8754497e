"""The 95% interval of a share over queries, of which those of one image succeed and fail together."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from clipmill.core.manifests import Interval

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
_PRIOR = 1.0
"""Failures (or hits, whichever are fewer) that a design effect must be seen in to count as much as the largest possible one."""
_LEAST_EFFECT = 1e-3
"""Least design effect: where all values are alike, a thousand times as many trials as queries are taken to be enough."""


def proportion_interval(
    values: NDArray[np.floating], images: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> Interval:
    """Mean of ``values`` (q,), each from 0 to 1, with its 95% interval; ``images`` (q,) names the image of each query, and
    ``weights`` (q,) tell how much each counts. Raises ValueError where there is no query."""
    if not len(values):
        raise ValueError("no query was measured")
    weight = np.ones(len(values)) if weights is None else weights
    image_of = np.unique(images, return_inverse=True)[1]
    sums = np.bincount(image_of, weight * values).astype(np.float64)
    value, low, high = clustered_ends(sums, np.bincount(image_of, weight).astype(np.float64))
    return Interval(value=float(value), low=float(low), high=float(high), n=len(values))


def drawn_proportion_interval(
    values: NDArray[np.floating], images: NDArray[np.int64], weights: NDArray[np.float64]
) -> Interval:
    """The same of queries that were drawn at several rates: each stands for ``weights`` (q,) queries, alike throughout an
    image, and those of one weight are a stratum. Raises ValueError where there is no query."""
    if not len(values):
        raise ValueError("no query was measured")
    first, image_of = np.unique(images, return_index=True, return_inverse=True)[1:]
    scaled = weights / weights.mean()
    sums = np.bincount(image_of, scaled * values).astype(np.float64)
    sizes = np.bincount(image_of, scaled).astype(np.float64)
    value, low, high = clustered_ends(sums, sizes, weights[first])
    return Interval(value=float(value), low=float(low), high=float(high), n=len(values))


def clustered_ends(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The share sum(``sums``) / sum(``sizes``) of values in [0, 1] and the ends of its interval, over images (…, i), which
    were drawn by strata where they have ``weights`` (i,) (`sum_variance`).

    The interval is Clopper and Pearson's (1934) for as many independent trials as have the variance seen between images:
    n / deff, with the design effect deff = n · v / (p (1 − p)) and v the linearised variance of a ratio of sums over images
    (Korn and Graubard 1998; Cochran 1977, section 6.4). A design effect seen in few failures says little, so it is averaged
    with the largest, that of queries which agree throughout their image, by the number of independent failures. Wilson's
    interval for the same trials leaves out the truth too often near 1, and so do percentiles of a bootstrap.
    """
    count, n = sums.shape[-1], sizes.sum()
    value = sums.sum(axis=-1) / n
    largest = float((sizes**2).sum() / n)
    residual = sums - value[..., None] * sizes
    variance = sum_variance(residual, weights) / n**2
    spread = value * (1 - value)
    varied = (spread > 0) & (count > 1)
    effect = np.where(varied, n * variance / np.where(varied, spread, 1.0), largest)
    effect = np.maximum(effect, _LEAST_EFFECT)
    failures = np.minimum(value, 1 - value) * n / effect
    trials = n * (failures + _PRIOR) / (failures * effect + _PRIOR * largest)
    hits = np.clip(value, 0.0, 1.0) * trials
    misses = trials - hits
    with np.errstate(invalid="ignore"):
        low = np.where(value > 0, betaincinv(hits, misses + 1, _TAIL), 0.0)
        high = np.where(value < 1, betaincinv(hits + 1, misses, 1 - _TAIL), 1.0)
    return value, np.minimum(low, value), np.maximum(high, value)


def sum_variance(
    residuals: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64] | np.float64:
    """The variance of a sum of ``residuals`` (…, i) over images.

    Without ``weights`` images are a random choice, from the world or from a dataset that is a choice itself: it comes to the
    same. With weights (i,), by which the residuals are multiplied already, those of one weight are a stratum of the dataset.
    The variance then has two parts: what was drawn of each stratum is a random choice, and how large the stratum is in the
    dataset is one too (Cochran 1977, section 12.2). Where everything is drawn it is the variance without weights.
    """
    if weights is None:
        count = residuals.shape[-1]
        whole: NDArray[np.float64] = count / max(count - 1, 1) * (residuals**2).sum(axis=-1)
        return whole
    total = np.zeros(residuals.shape[:-1])
    for weight in np.unique(weights):
        inside = residuals[..., weights == weight]
        count, mean = inside.shape[-1], inside.mean(axis=-1)
        spread = ((inside - mean[..., None]) ** 2).sum(axis=-1)
        # An image that is alone in its stratum shows no spread: its residual stands for it.
        total = total + (count / (count - 1) * spread + count * mean**2 / weight if count > 1 else mean**2)
    return total
