"""Splits of labelled images into training, validation and test, which depend on the rows and not on their order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARE = 0.2
"""Of each class a fifth is for testing and a fifth for validation, rounded, at least one image each; the rest trains."""


@dataclass(frozen=True)
class Split:
    """Positions of images, int64, in the order of their rows, so that what is summed over them is the same to the last bit."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def hash_rows(rows: NDArray[np.int64], *salt: int) -> NDArray[np.uint64]:
    """64 random-looking bits per row that depend on the row and the salt only (SplitMix64; Steele, Lea and Flood 2014)."""
    mixed = rows.astype(np.uint64)
    for number in (*salt, 0):
        mixed = mixed + np.uint64((number * 2 + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def order_in_class(keys: NDArray[np.uint64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each image (n,) how many of its class have a lesser key."""
    order = np.lexsort((keys, classes))
    ordered = classes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    ranks = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    result = np.empty(len(classes), np.int64)
    result[order] = ranks
    return result


def draw(positions: NDArray[np.int64], rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` of these positions, drawn by row, ascending."""
    if len(positions) <= most:
        return positions
    keys = hash_rows(rows[positions], seed, 1)
    return np.sort(positions[np.argsort(keys, kind="stable")[:most]])


def split(
    positions: NDArray[np.int64], rows: NDArray[np.int64], classes: NDArray[np.int64], seed: int, *, test: bool = True
) -> Split:
    """Splits images at ``positions`` (n,), whose row and class (all images,) are given, class by class.

    Classes with fewer than three images (two, without a test split) are left out: they cannot be in each part.
    """
    positions = positions[np.argsort(rows[positions], kind="stable")]
    own = classes[positions]
    rank = order_in_class(hash_rows(rows[positions], seed, 2), own)
    size = np.bincount(own, minlength=int(own.max(initial=0)) + 1)[own]
    held = np.maximum(1, np.rint(size * SHARE).astype(np.int64))
    tested = held if test else np.zeros_like(held)
    usable = size >= (3 if test else 2)
    in_test, in_validation = rank < tested, rank < tested + held
    return Split(
        train=positions[usable & ~in_validation],
        validation=positions[usable & in_validation & ~in_test],
        test=positions[usable & in_test],
    )
