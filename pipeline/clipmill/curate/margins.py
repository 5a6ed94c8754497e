"""How far rows look beside their homes: as little as finds the pairs of rows that were drawn to tune on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.curate.cells import Cells, Homes, Margins, homes_of

BAND = 0.01
"""Width of the bands of cosine in which recall is tuned and told."""


@dataclass(frozen=True)
class Wanted:
    """The share of pairs that is to be found in each band, and of all."""

    in_band: float
    of_all: float


_NATURAL = Wanted(in_band=0.985, of_all=0.995)
"""Of the pairs that the drawn rows have. The promise is .97 and .99, and what suits a few hundred rows suits others a little
less."""
_MADE = Wanted(in_band=0.97, of_all=0.99)
"""Of pairs that are made, of which there are thousands and which are harder to find than those of a collection."""
_BY_REGION = (0.2, 0.4, 0.6)
"""What part of the pairs that may be missed is missed for want of a look into the right region. Each is tried, since how much
work a region saves depends on the vectors."""
_PAIRS = 1 << 15
"""Compared at a time: their vectors take a quarter of a gigabyte at 512 dimensions."""
_ROUNDING = 1e-6
"""Cosines in float32 differ by as much with the order of their sums."""
_BAND_ROUNDING = 1e-5
"""The same as a part of the width of a band: a cosine of .96 in float32 is of the band from .96 on."""
_EDGES = 3
"""Pairs are made at the lower edge of so many bands, where they are hardest to find: recall rises with the cosine."""


@dataclass(frozen=True)
class Needs:
    """What finding pairs (p,) takes, float32: ``cosine`` of each pair, and by how much the cosine of one row with the region,
    and with the home, of the other falls short of that with its own. Columns (p, 2) are the two rows of a pair, either of
    which may find it."""

    cosine: NDArray[np.float32]
    region: NDArray[np.float32]
    cell: NDArray[np.float32]

    @staticmethod
    def join(parts: list[Needs]) -> Needs:
        """All of them, in order."""
        return Needs(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("cosine", "region", "cell"))
        )

    def found(self, margins: Margins) -> NDArray[np.bool_]:
        """Which pairs rows find with these margins."""
        near = (self.region <= margins.region) & (self.cell <= margins.cell)
        return near[:, 0] | near[:, 1]


@dataclass(frozen=True)
class Side:
    """One side of pairs (p,): ``rows`` (p,) of some unit ``vectors`` (n, d), and the homes of these."""

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    homes: Homes

    @staticmethod
    def of(cells: Cells, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> Side:
        """Each row that is in a pair is homed once."""
        distinct, back = np.unique(rows, return_inverse=True)
        there = vectors[distinct]
        return Side(there, back, homes_of(cells, there))


def needs_of(cells: Cells, one: Side, other: Side) -> Needs:
    """What it takes to find the pairs of the rows of one side with those of the other."""
    made = [Needs(np.empty(0, np.float32), np.empty((0, 2), np.float32), np.empty((0, 2), np.float32))]
    for start in range(0, len(one.rows), _PAIRS):
        a, b = (side.rows[start : start + _PAIRS] for side in (one, other))
        cosine = np.einsum("ij,ij->i", one.vectors[a], other.vectors[b])
        region, cell = [], []
        for mine, own, theirs, at in ((one, a, other, b), (other, b, one, a)):
            vectors = mine.vectors[own]
            to_region = np.einsum("ij,ij->i", vectors, cells.regions[theirs.homes.region[at]])
            to_cell = np.einsum("ij,ij->i", vectors, cells.centroids[theirs.homes.cell[at]])
            region.append(mine.homes.region_cosine[own] - to_region)
            cell.append(mine.homes.cell_cosine[own] - to_cell)
        made.append(Needs(cosine, np.stack(region, axis=1), np.stack(cell, axis=1)))
    return Needs.join(made)


def made_needs(cells: Cells, sample: NDArray[np.float32], threshold: float, seed: int) -> Needs:
    """The same of pairs that are made of a sample (s, d): each vector with one at a given cosine from it, in the direction of
    another vector of the sample, at random. They set a least margin where the dataset has few pairs to tune on."""
    rng = np.random.default_rng(seed)
    rows = np.arange(len(sample))
    one = Side.of(cells, sample, rows)
    made = []
    for edge in edges(threshold)[:_EDGES]:
        towards = sample[rng.permutation(len(sample))] - sample[rng.permutation(len(sample))]
        aside = towards - np.einsum("ij,ij->i", towards, sample)[:, None] * sample
        length = np.linalg.norm(aside, axis=1, keepdims=True)
        aside = aside / np.maximum(length, np.finfo(np.float32).tiny)
        beside = edge * sample + np.sqrt(max(0, 1 - edge**2)) * aside
        beside = (beside / np.linalg.norm(beside, axis=1, keepdims=True)).astype(np.float32)
        made.append(needs_of(cells, one, Side.of(cells, beside, rows)))
    return Needs.join(made)


def edges(threshold: float) -> NDArray[np.float64]:
    """Lower edges (b,) of the bands of cosine from the threshold to 1; the last band holds 1."""
    count = max(1, int(np.ceil((1 - threshold) / BAND - 1e-9)))
    return threshold + BAND * np.arange(count, dtype=np.float64)


def bands_of(cosine: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """The number of the band of each cosine (p,)."""
    last = len(edges(threshold)) - 1
    return np.clip(np.floor((cosine.astype(np.float64) - threshold) / BAND + _BAND_ROUNDING), 0, last).astype(np.int64)


def choose_margins(natural: Needs, made: Needs, threshold: float, cost: Callable[[Margins], float]) -> Margins:
    """The margins of least ``cost`` with which rows find as much as is wanted of the pairs that the drawn rows have (natural),
    and of those that were made."""
    kinds = [(needs, wanted) for needs, wanted in ((natural, _NATURAL), (made, _MADE)) if len(needs.cosine)]
    tried = []
    for part in _BY_REGION:
        region = max(
            _least(needs, needs.region.min(axis=1), _missing(wanted, part), threshold) for needs, wanted in kinds
        )
        reached = [np.where(needs.region <= region, needs.cell, np.inf).min(axis=1) for needs, _ in kinds]
        cell = max(_least(needs, most, wanted, threshold) for (needs, wanted), most in zip(kinds, reached, strict=True))
        tried.append(Margins(region, cell))
    return min(tried, key=cost)


def _missing(wanted: Wanted, part: float) -> Wanted:
    """What misses only such a part of what may be missed."""
    return Wanted(in_band=1 - part * (1 - wanted.in_band), of_all=1 - part * (1 - wanted.of_all))


def _least(needs: Needs, asked: NDArray[np.float32], wanted: Wanted, threshold: float) -> float:
    """The least margin that is as great as what is ``asked`` (p,) by as many pairs as are wanted."""
    bands = bands_of(needs.cosine, threshold)
    shares = [(asked, wanted.of_all), *((asked[bands == band], wanted.in_band) for band in np.unique(bands))]
    return max(0.0, *(_quantile(values, share) for values, share in shares)) + _ROUNDING


def _quantile(values: NDArray[np.float32], share: float) -> float:
    """The least of the values that are reached by so large a share of them; of those that are finite."""
    order = np.sort(values)
    finite = int(np.isfinite(order).sum())
    if not finite:
        return 0.0
    return float(order[min(int(np.ceil(share * len(order))) - 1, finite - 1)])
