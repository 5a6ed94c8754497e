"""Units of work: what one actor call encodes, and what a killed run does again.

How input rows are cut into units: `clipmill.source.cutting`; which of them are read together: `clipmill.source.grouping`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Span:
    """Rows ``start`` to ``stop`` (exclusive) of the input file with this ordinal."""

    ordinal: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Unit:
    """A contiguous run of input rows, in order of (ordinal, row). Numbered from 0 in that order."""

    number: int
    spans: tuple[Span, ...]

    @property
    def rows(self) -> int:
        return sum(span.rows for span in self.spans)


@dataclass(frozen=True, eq=False)
class Units(Sequence[Unit]):
    """Many units in little memory: five billion rows are some ten million of them.

    ``numbers`` (n) are the units' numbers, ascending; the spans of the unit at i are those from ``first[i]`` to
    ``first[i + 1]`` in ``ordinals``, ``starts`` and ``stops``. All int64.
    """

    numbers: NDArray[np.int64]
    first: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Unit: ...

    @overload
    def __getitem__(self, at: slice) -> "Units": ...

    def __getitem__(self, at: int | slice) -> "Unit | Units":
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            return self._run(start, max(start, stop)) if step == 1 else self.take(np.arange(start, stop, step))
        at = range(len(self))[at]
        spans = slice(int(self.first[at]), int(self.first[at + 1]))
        return Unit(
            int(self.numbers[at]),
            tuple(map(Span, self.ordinals[spans].tolist(), self.starts[spans].tolist(), self.stops[spans].tolist())),
        )

    def _run(self, start: int, stop: int) -> "Units":
        """Consecutive units, without a copy of what they are made of."""
        first = self.first[start : stop + 1]
        spans = slice(int(first[0]), int(first[-1]))
        return Units(
            self.numbers[start:stop], first - first[0], self.ordinals[spans], self.starts[spans], self.stops[spans]
        )

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of each unit, int64 (n)."""
        until = np.concatenate([[0], np.cumsum(self.stops - self.starts)])
        rows: NDArray[np.int64] = until[self.first[1:]] - until[self.first[:-1]]
        return rows

    @cached_property
    def sha256(self) -> str:
        """Of which rows are which unit."""
        digest = hashlib.sha256()
        for array in (self.numbers, self.first, self.ordinals, self.starts, self.stops):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def take(self, at: ArrayLike) -> "Units":
        """The units at these positions (or where a mask of them all is true), in ascending order."""
        chosen = np.arange(len(self))[np.asarray(at)]
        counts = self.first[chosen + 1] - self.first[chosen]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        spans = np.repeat(self.first[chosen] - first[:-1], counts) + np.arange(first[-1])
        return Units(self.numbers[chosen], first, self.ordinals[spans], self.starts[spans], self.stops[spans])

    def rows_by_ordinal(self, files: int) -> NDArray[np.int64]:
        """Rows of all these units by the ordinal of their file, int64 (files)."""
        rows = np.zeros(files, np.int64)
        np.add.at(rows, self.ordinals, self.stops - self.starts)
        return rows
