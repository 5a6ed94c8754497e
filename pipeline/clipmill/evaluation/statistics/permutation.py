"""Whether a slice does worse than the rest: a permutation test over images, and Holm's correction for many of them."""

import math

import numpy as np
from numpy.typing import NDArray

LEVELS = 32
_STOP_AT = 10
_LEAST_DRAWS = 1000
_FIRST_BATCH, _LARGEST_BATCH = 100, 5000
_EQUAL = 1e-9


def draws_needed(comparisons: int, level: float) -> int:
    """Permutations with which the smallest p-value possible is half of what Holm's correction asks of the first."""
    return max(_LEAST_DRAWS, math.ceil(2 * comparisons / level))


def residual_levels(
    sums: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How far each image's ``sums`` (n,) over its ``counts`` queries lie above the mean of all queries, at most `LEVELS`
    values of it, and the level of each image. More values are put into bins of equal width, at the mean of each."""
    residual = sums - sums.sum() / counts.sum() * counts
    values, level = np.unique(np.round(residual, 12), return_inverse=True)
    if len(values) > LEVELS:
        width = (values[-1] - values[0]) / LEVELS
        bins = np.minimum(((residual - values[0]) / width).astype(np.int64), LEVELS - 1)
        level = np.unique(np.maximum(bins, 0), return_inverse=True)[1]
        values = np.bincount(level, residual) / np.bincount(level)
    return values, level


def p_worse(
    values: NDArray[np.float64],
    level: NDArray[np.int64],
    members: NDArray[np.bool_],
    draws: int,
    random: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """P-value, one-sided, of the hypothesis that the ``members`` (n,) are a random choice of the images.

    ``values`` and ``level`` are those of `residual_levels`; the statistic is the members' sum. As images of one level are
    interchangeable, what is permuted is how many of each level the slice gets: the multivariate hypergeometric
    distribution, so time and memory do not grow with the number of images. At most ``draws`` permutations, fewer where
    ten of them soon do as badly (Besag and Clifford 1991). Valid at every sample size: P(p ≤ α) ≤ α.

    Of images that were drawn at several rates, the members and the others are each taken in the shares that they have in the
    dataset by their ``weights`` (n,), and to be as many as unweighted ones that would be as sure (Kish 1965, section 11.7).
    """
    inside = _level_sizes(level, members, weights, len(values))
    sizes = inside + _level_sizes(level, ~members, weights, len(values))
    observed = float(inside @ values) + _EQUAL * max(1.0, float(np.abs(values).max()))
    as_bad = done = 0
    while done < draws:
        batch = min(max(_FIRST_BATCH, done), _LARGEST_BATCH, draws - done)
        drawn = random.multivariate_hypergeometric(sizes, int(inside.sum()), batch, "marginals")
        reached = np.flatnonzero(drawn @ values <= observed)
        if as_bad + len(reached) >= _STOP_AT:
            return _STOP_AT / (done + int(reached[_STOP_AT - as_bad - 1]) + 1)
        as_bad += len(reached)
        done += len(drawn)
    return (as_bad + 1) / (draws + 1)


def _level_sizes(
    level: NDArray[np.int64], chosen: NDArray[np.bool_], weights: NDArray[np.float64] | None, levels: int
) -> NDArray[np.int64]:
    """Images of each level (l,) among those ``chosen`` (n,)."""
    if weights is None:
        return np.bincount(level[chosen], minlength=levels)
    weight = weights[chosen]
    scale = weight.sum() / max(float((weight**2).sum()), 1.0) if len(weight) else 0.0
    return np.round(np.bincount(level[chosen], weight * scale, levels)).astype(np.int64)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values (m,) adjusted for m comparisons by Holm's step-down method (1979).

    Of all comparisons whose adjusted value is at most α, with probability 1 − α none is false, however they depend on
    each other. Slices of one column do: where one is worse, the others together are better.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted
