"""Rows of a strip, ordered by the blocks of cells that compare them, so that a block reads one range of each strip's file.

A block needs the rows that are at home in its cells and those that look into one. So a row's vector is written once for each
block that it is at home in or looks into, which for most rows is one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.curate.cells import Cells
from clipmill.curate.near import Pairs

LOOK = np.dtype([("entry", "<i4"), ("cell", "<i4")])
"""That a row, by its number among the entries of the block, looks into a cell."""


def entry_type(dimension: int) -> np.dtype[np.void]:
    """A row in a block: its position in the gallery, the cell that is its home, in this block or another, and its vector."""
    return np.dtype([("position", "<i8"), ("home", "<i4"), ("vector", "<f2", (dimension,))])


@dataclass(frozen=True)
class Blocks:
    """Cells in runs: block b has those from ``starts[b]`` to ``starts[b + 1]`` − 1. int64 (b + 1,)."""

    starts: NDArray[np.int64]

    @staticmethod
    def of(cells: Cells, homes: NDArray[np.int64], count: int) -> Blocks:
        """So many runs of cells, with nearly as many rows each as the homes (s,) of a sample say. A run may be empty."""
        before = np.cumsum([0, *np.bincount(homes, minlength=len(cells))])
        ends = np.searchsorted(before, len(homes) * np.arange(1, count) / count)
        return Blocks(np.array([0, *ends, len(cells)], np.int64))

    def of_cells(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """The block of each cell."""
        return np.searchsorted(self.starts, cells, side="right") - 1


@dataclass(frozen=True)
class Grouped:
    """What the file of a strip holds: for block b the entries ``entries[b]`` to ``entries[b + 1]`` − 1, then its looks, counted
    likewise. ``alike`` are pairs with rows that are in no block, since they have the vector of one that is."""

    entries: NDArray[np.int64]
    looks: NDArray[np.int64]
    alike: Pairs

    def range_of(self, block: int, dimension: int) -> tuple[int, int, int]:
        """Where the bytes of a block begin, and how many are of entries and of looks."""
        size = entry_type(dimension).itemsize
        begin = int(self.entries[block]) * size + int(self.looks[block]) * LOOK.itemsize
        entries, looks = np.diff(self.entries)[block], np.diff(self.looks)[block]
        return begin, int(entries) * size, int(looks) * LOOK.itemsize


@dataclass(frozen=True)
class BlockRows:
    """The rows of a block: ``positions`` int64 (m,) in rising order, ``homes`` int64 (m,), ``vectors`` float16 (m, d); and
    looks (l,): the number of a row among these, and the cell that it looks into beside its home."""

    positions: NDArray[np.int64]
    homes: NDArray[np.int64]
    vectors: NDArray[np.float16]
    look_rows: NDArray[np.int64]
    look_cells: NDArray[np.int64]


@dataclass(frozen=True)
class Looks:
    """That ``rows`` (l,) of a strip look into ``cells`` (l,) beside the ``homes`` (n,) of all its rows. All are int64."""

    homes: NDArray[np.int64]
    rows: NDArray[np.int64]
    cells: NDArray[np.int64]


def group_rows(
    stored: NDArray[np.float16], start: int, active: NDArray[np.int64], alike: Pairs, looks: Looks, blocks: Blocks
) -> tuple[Grouped, Iterator[bytes]]:
    """What is written of a strip of vectors (n, d) from position ``start`` on: of its ``active`` rows alone."""
    count, n = len(blocks.starts) - 1, len(stored)
    is_active = np.zeros(n, bool)
    is_active[active] = True
    looking = is_active[looks.rows]
    rows, cells = looks.rows[looking], looks.cells[looking]
    into = blocks.of_cells(cells)
    keys = np.unique(np.concatenate([blocks.of_cells(looks.homes[active]) * n + active, into * n + rows]))
    block_of, row_of = keys // n, keys % n
    entries = np.searchsorted(block_of, np.arange(count + 1))
    order = np.lexsort((cells, rows, into))
    into, rows, cells = into[order], rows[order], cells[order]
    bounds = np.searchsorted(into, np.arange(count + 1))
    grouped = Grouped(entries, bounds, alike)

    def parts() -> Iterator[bytes]:
        for block in range(count):
            here = row_of[entries[block] : entries[block + 1]]
            made = np.empty(len(here), entry_type(stored.shape[1]))
            made["position"], made["home"], made["vector"] = here + start, looks.homes[here], stored[here]
            yield made.tobytes()
            told = np.empty(bounds[block + 1] - bounds[block], LOOK)
            told["entry"] = np.searchsorted(here, rows[bounds[block] : bounds[block + 1]])
            told["cell"] = cells[bounds[block] : bounds[block + 1]]
            yield told.tobytes()

    return grouped, parts()


def rows_of(parts: list[tuple[bytes, int]], dimension: int) -> BlockRows:
    """The rows of a block, from what each strip holds of it, in order: bytes, and how many of them are of entries."""
    entries = [np.frombuffer(data[:size], entry_type(dimension)) for data, size in parts]
    looks = [np.frombuffer(data[size:], LOOK) for data, size in parts]
    before = np.cumsum([0, *(len(part) for part in entries)])
    rows = np.concatenate([np.empty(0, entry_type(dimension)), *entries])
    none = np.empty(0, np.int64)
    return BlockRows(
        rows["position"].astype(np.int64),
        rows["home"].astype(np.int64),
        np.ascontiguousarray(rows["vector"]),
        np.concatenate([none, *(part["entry"] + first for part, first in zip(looks, before, strict=False))]),
        np.concatenate([none, *(part["cell"].astype(np.int64) for part in looks)]),
    )
