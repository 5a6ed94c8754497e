"""All pairs of vectors whose cosine reaches a threshold: none missed and none invented.

Most pairs are ruled out by a few components of each. After a rotation by which the first components hold most of what
vectors differ in, x·y ≤ x₁·y₁ + ‖x₂‖ ‖y₂‖ (Cauchy and Schwarz), where x₁ are the first components and x₂ the others. The
pairs that are left are compared whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.index.search.products import pairs_reaching

if TYPE_CHECKING:
    import torch

MARGIN = 2e-6
"""Cosines this close to the threshold reach it: float32 sums in another order differ by as much."""
_FEW_COMPONENTS = 48
_BOUND_MARGIN = 1e-5
_LEFT_FOR_WHOLE = 1 / 32
"""With more pairs left than this share, comparing all of a block whole is faster than gathering those."""
_BLOCK = 1024
_GATHERED = 1 << 15
_MANY_ALIKE = 64
_SUMMED = 16
_WEIGHTS = np.random.default_rng(0).integers(0, 1 << 63, _SUMMED, dtype=np.uint64)


@dataclass(frozen=True)
class Pairs:
    """``first`` < ``second`` are positions (pairs,) int64, ``cosine`` is float32."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    @staticmethod
    def join(parts: list[Pairs]) -> Pairs:
        """All pairs, in order of first and second position."""
        if not parts:
            return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        first = np.concatenate([part.first for part in parts])
        second = np.concatenate([part.second for part in parts])
        order = np.lexsort((second, first))
        return Pairs(first[order], second[order], np.concatenate([part.cosine for part in parts])[order])

    def of_positions(self, positions: NDArray[np.int64]) -> Pairs:
        """The same pairs of rows that are counted otherwise: ``positions`` (rows,) are what their numbers stand for. In
        order, each pair once, however often and whichever way around it was found."""
        one, other = positions[self.first], positions[self.second]
        return Pairs.join([Pairs(np.minimum(one, other), np.maximum(one, other), self.cosine)]).distinct()

    def distinct(self) -> Pairs:
        """Pairs that are in order, each once."""
        again = np.zeros(len(self), bool)
        again[1:] = (np.diff(self.first) == 0) & (np.diff(self.second) == 0)
        return Pairs(self.first[~again], self.second[~again], self.cosine[~again])


@dataclass(frozen=True)
class Found:
    """All ``pairs`` of a piece of work; ``alike`` are those of them whose second row was compared with no other, since it has
    the vector of the first."""

    pairs: Pairs
    alike: Pairs


def rotation_of(sample: NDArray[np.float16]) -> NDArray[np.float32]:
    """A rotation (d, d) whose first columns are the directions in which a sample (rows, d) is longest."""
    vectors = unit(sample).astype(np.float64)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(directions[:, ::-1], dtype=np.float32)


def unit(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same directions (n, d) in float32, of unit length."""
    whole = vectors.astype(np.float32)
    whole /= np.sqrt(np.einsum("ij,ij->i", whole, whole))[:, None]
    return whole


@dataclass(frozen=True)
class Tile:
    """A run of vectors made ready to compare: positions ``start`` on, unit vectors (n, d), and bounds (n, few)."""

    start: int
    vectors: NDArray[np.float32]
    bounds: NDArray[np.float32]
    active: NDArray[np.int64]
    alike: Pairs

    @staticmethod
    def of(start: int, stored: NDArray[np.float16], rotation: NDArray[np.float32]) -> Tile:
        """``active`` are the rows to compare: of very many with the same vector only the first, to which the others are
        paired in ``alike``; else a picture found a million times would make 10¹² pairs."""
        vectors = unit(stored)
        dimension = vectors.shape[1]
        bounds = vectors
        if dimension > 2 * _FEW_COMPONENTS:
            few = vectors @ rotation[:, :_FEW_COMPONENTS]
            rest = np.sqrt(np.maximum(1 - np.einsum("ij,ij->i", few, few), 0))
            bounds = np.concatenate([few, rest[:, None]], axis=1)
        active, alike = _collapse(stored, start)
        return Tile(start, vectors, bounds, active, alike)


def _collapse(stored: NDArray[np.float16], start: int) -> tuple[NDArray[np.int64], Pairs]:
    rows = np.arange(len(stored))
    leader = rows.copy()
    several = _perhaps_alike(stored)
    as_bytes = np.ascontiguousarray(stored[several]).view(f"V{stored.shape[1] * 2}").reshape(-1)
    _, leaders, inverse, counts = np.unique(as_bytes, return_index=True, return_inverse=True, return_counts=True)
    leader[several] = np.where(counts[inverse] > _MANY_ALIKE, several[leaders[inverse]], several)
    follows = leader != rows
    followers = rows[follows]
    alike = Pairs(leader[follows] + start, followers + start, np.ones(len(followers), np.float32))
    return rows[~follows], alike


def _perhaps_alike(stored: NDArray[np.float16]) -> NDArray[np.int64]:
    """Rows among which all are that very many have the same vector with: by a sum of a few of their components, which is sorted
    far sooner than vectors are."""
    bits = stored[:, :_SUMMED].view(np.uint16).astype(np.uint64)
    _, inverse, counts = np.unique(bits @ _WEIGHTS[: bits.shape[1]], return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[inverse] > _MANY_ALIKE)


def near_pairs(one: Tile, other: Tile, threshold: float, device: torch.device | None = None) -> Pairs:
    """Pairs between two tiles, or within one when both are the same, whose cosine is ``threshold`` or more. With a ``device``,
    torch finds there which pairs come near it: the same but for those within rounding of it, with the same cosines."""
    comparison = Comparison.of(one, other, threshold, device)
    if one.start == other.start:
        return Pairs.join([one.alike, *comparison.within(one.active)])
    return Pairs.join(comparison.across(one.active, other.active))


_Look = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Some rows of one tile (r,) and some of another (c,) to all pairs of them that may reach a threshold, and few others."""


def _by_bounds(one: Tile, other: Tile, threshold: float) -> _Look:
    whole = one.bounds.shape[1] == one.vectors.shape[1]
    least = threshold - (MARGIN if whole else _BOUND_MARGIN)

    def look(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        left = np.nonzero(one.bounds[rows] @ other.bounds[columns].T >= least)
        if not whole and len(left[0]) > _LEFT_FOR_WHOLE * len(rows) * len(columns):
            left = np.nonzero(one.vectors[rows] @ other.vectors[columns].T >= threshold - MARGIN)
        return rows[left[0]], columns[left[1]]

    return look


@dataclass(frozen=True)
class Comparison:
    """Rows of one tile with rows of another, or of the same one, that reach a threshold. Rows are counted from the start of
    their tile; the pairs found are positions, as everywhere."""

    one: Tile
    other: Tile
    threshold: float
    look: _Look

    @staticmethod
    def of(one: Tile, other: Tile, threshold: float, device: torch.device | None = None) -> Comparison:
        """By the bounds of the tiles, or by torch on a ``device``, to which the vectors are moved here, once."""
        if device is None:
            return Comparison(one, other, threshold, _by_bounds(one, other, threshold))
        look = pairs_reaching(one.vectors, other.vectors, threshold - _BOUND_MARGIN, device)
        return Comparison(one, other, threshold, look)

    def within(self, rows: NDArray[np.int64]) -> list[Pairs]:
        """Pairs of some rows (r,), in rising order, of a tile that is compared with itself."""
        found = []
        for begin in range(0, len(rows), _BLOCK):
            first, second = self.look(rows[begin : begin + _BLOCK], rows[begin:])
            later = first < second
            found += _that_reach(self.one, first[later], self.other, second[later], self.threshold)
        return found

    def across(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> list[Pairs]:
        """Pairs of some rows (r,) of one tile with some (c,) of the other."""
        found = []
        for begin in range(0, len(rows), _BLOCK):
            first, second = self.look(rows[begin : begin + _BLOCK], columns)
            found += _that_reach(self.one, first, self.other, second, self.threshold)
        return found


def _that_reach(
    one: Tile, first: NDArray[np.int64], other: Tile, second: NDArray[np.int64], threshold: float
) -> list[Pairs]:
    found = []
    for begin in range(0, len(first), _GATHERED):
        a, b = first[begin : begin + _GATHERED], second[begin : begin + _GATHERED]
        cosine = np.einsum("ij,ij->i", one.vectors[a], other.vectors[b])
        reach = cosine >= threshold - MARGIN
        found.append(Pairs(a[reach] + one.start, b[reach] + other.start, np.minimum(cosine[reach], 1)))
    return found
