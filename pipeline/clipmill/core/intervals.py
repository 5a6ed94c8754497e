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


def clustered_ends(
    sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The share sum(``sums``) / sum(``sizes``) of values in [0, 1] and the ends of its interval, over images (…, i).

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
    variance = count / max(count - 1, 1) * (residual**2).sum(axis=-1) / n**2
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
