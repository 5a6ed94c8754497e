"""Which queries are ranked where not all are: a random choice in which small slices keep queries.

Queries are drawn at a few rates, and those of one rate are a stratum. The common rate holds for most. A slice in which it would
leave too few is drawn at a higher one, a power of two, so that many slices still make few strata, each of many queries. A query
stands for 1 / rate queries of the dataset, which is its weight in every figure over all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLICE_QUERIES = 1000
"""Queries that a slice keeps where it has as many: its R@1 is then known to ±.03."""
_SHARE_FOR_SLICES = 0.25
"""Small slices together wish for so much of the sample at most; as rates are rounded up to powers of two, they get up to twice
that, and the rest has half of the sample or more."""
_COMMON = 62
"""Stands for the common rate among powers: lower than that of any slice."""


@dataclass(frozen=True)
class Stratum:
    """``drawn`` of ``queries`` queries."""

    drawn: int
    queries: int

    @property
    def weight(self) -> float:
        """Queries of the dataset that each drawn one stands for."""
        return self.queries / self.drawn


@dataclass(frozen=True)
class Sample:
    """Queries that were drawn: their ``positions`` int64 (q,) in the part, rising, and the ``stratum`` int64 (q,) of each."""

    positions: NDArray[np.int64]
    stratum: NDArray[np.int64]
    strata: tuple[Stratum, ...]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def queries(self) -> int:
        """Queries that were drawn from."""
        return sum(stratum.queries for stratum in self.strata)

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """The weight of each query, float64 (q,); None where all weigh the same."""
        if len(self.strata) == 1:
            return None
        return np.array([stratum.weight for stratum in self.strata])[self.stratum]


def draw_sample(
    positions: NDArray[np.int64], keys: NDArray[np.uint64], most: int, slicings: Sequence[NDArray[np.int64]] = ()
) -> Sample | None:
    """``most`` of the queries at ``positions`` (n,), rising, at most; None where there are no more than that.

    Those with the least ``keys`` (n,) of each stratum are drawn: the same keys draw the same queries, and without slices a
    smaller sample is a part of a larger one. Each of ``slicings`` (n,) numbers the slices of one column, −1 for a query that
    is in none.
    """
    count = len(positions)
    if count <= most:
        return None
    powers = _powers(slicings, count, most)
    numbers, stratum_of = np.unique(powers, return_inverse=True)
    sizes = np.bincount(stratum_of)
    # Strata of higher rates first. The common rate comes last, and what is left of the sample is for it: half or more, and
    # some query has it, since slices that are so small do not hold all.
    drawn = [math.ceil(size / 2**power) for size, power in zip(sizes.tolist(), numbers.tolist(), strict=True)]
    drawn[-1] = min(int(sizes[-1]), most - sum(drawn[:-1]))
    order = np.lexsort((keys, stratum_of))
    starts = np.cumsum(sizes) - sizes
    chosen = np.sort(
        np.concatenate([order[start : start + few] for start, few in zip(starts.tolist(), drawn, strict=True)])
    )
    strata = tuple(Stratum(few, int(size)) for few, size in zip(drawn, sizes, strict=True))
    return Sample(positions[chosen], stratum_of[chosen].astype(np.int64), strata)


def evenly(weights: NDArray[np.float64] | None, count: int, seed: int) -> NDArray[np.int64]:
    """Numbers (n,), rising, of ``count`` drawn queries, so chosen that every query of the dataset had the same chance: each
    stays by its weight over the largest. All of them where none has a weight."""
    if weights is None:
        return np.arange(count)
    return np.flatnonzero(np.random.default_rng(seed).random(count) * weights.max() < weights)


def _powers(slicings: Sequence[NDArray[np.int64]], count: int, most: int) -> NDArray[np.int64]:
    """For each query the p of its rate 1 / 2^p, int64 (n,); `_COMMON` where the common rate leaves its slices enough."""
    powers = np.full(count, _COMMON, np.int64)
    slices = sum(len(np.unique(numbers[numbers >= 0])) for numbers in slicings)
    enough = min(SLICE_QUERIES, int(_SHARE_FOR_SLICES * most) // max(1, slices))
    for numbers in slicings:
        inside = numbers >= 0
        sizes = np.bincount(numbers[inside], minlength=1)
        small = sizes * (most / count) < enough
        power = np.where(small, np.floor(np.log2(np.maximum(sizes / max(1, enough), 1.0))), _COMMON).astype(np.int64)
        powers[inside] = np.minimum(powers[inside], power[numbers[inside]])
    return powers
