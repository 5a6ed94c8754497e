"""The mean of a continuous figure over queries, with an interval that knows that queries of one image go together."""

import math

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import sum_variance
from clipmill.core.manifests import Interval

_NORMAL = 1.959963984540054


def clustered_mean(
    values: NDArray[np.float64], rows: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> Interval | None:
    """Mean of ``values`` (q,) over queries; ``rows`` (q,) names the image of each. None where there are no queries.
    ``weights`` (q,) are those of queries that were drawn at several rates (`clipmill.core.intervals.sum_variance`).

    The interval is that of a ratio of two sums over images, linearised (Cochran 1977, section 6.4), with Student's t. It
    is what resampling of images comes to, at one pass over the values. One image alone has no interval: it is [−∞, ∞].
    """
    if not len(values):
        return None
    images, first, image_of = np.unique(rows, return_index=True, return_inverse=True)
    weight = None if weights is None else weights / weights.mean()
    sums = np.bincount(image_of, values if weight is None else weight * values, len(images))
    counts = np.bincount(image_of, weight, len(images))
    mean = float(values.mean()) if weight is None else float(np.average(values, weights=weight))
    if len(images) == 1:
        return Interval(value=mean, low=-math.inf, high=math.inf, n=len(values))
    residual = sums - mean * counts
    if weights is None:
        variance = len(images) / (len(images) - 1) * float(residual @ residual)
    else:
        variance = float(sum_variance(residual, weights[first]))
    margin = student_quantile(len(images) - 1) * (math.sqrt(variance) / len(values))
    return Interval(value=mean, low=mean - margin, high=mean + margin, n=len(values))


def student_quantile(freedom: int) -> float:
    """The .975 quantile of Student's t.

    Exact for 1 and 2 degrees of freedom, else the expansion in Abramowitz and Stegun 1964, 26.7.5, to within 1%.
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, v = _NORMAL, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3
