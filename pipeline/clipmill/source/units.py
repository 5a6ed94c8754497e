"""Input rows cut into units of work: what one actor call encodes, and what a killed run does again.

A unit holds whole row groups, or a piece of one row group: then the units of that row group are read by one task, so
that no row group is ever read twice. The price is that a unit may be half full where row groups are a little larger
than half a unit.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipmill.source.input_file import InputFile

MAX_DECODED_BYTES = 64 << 20
MAX_ENCODED_BYTES = 96 << 20
"""Both keep a unit below Ray's block size of 128 MiB, beyond which it would be split anywhere."""
MAX_ROWS = 1024
LEAST_ROWS, LEAST_UNITS = 64, 16


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
            return self.take(np.arange(len(self))[at])
        at = range(len(self))[at]
        spans = slice(int(self.first[at]), int(self.first[at + 1]))
        return Unit(
            int(self.numbers[at]),
            tuple(map(Span, self.ordinals[spans].tolist(), self.starts[spans].tolist(), self.stops[spans].tolist())),
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


def rows_per_unit(height: int, width: int, rows: int, beside: int = 0) -> int:
    """The most rows of a unit: 64 MiB of uint8 RGB images of this size and ``beside`` bytes a row, and between 1 and 1024.
    Of few ``rows`` in all it is a sixteenth, but not below 64: a small input keeps all encoders busy too."""
    most = max(1, min(MAX_ROWS, MAX_DECODED_BYTES // (3 * height * width + beside)))
    return min(most, max(LEAST_ROWS, -(-rows // LEAST_UNITS)))


def plan_units(inputs: Sequence[InputFile], rows_per_unit: int, limit: int | None = None) -> Units:
    """All rows of the inputs (the first ``limit`` of them), each in exactly one unit of at most ``rows_per_unit`` rows.

    Units are smaller where rows are large: they hold about 96 MiB of the file's bytes at most.
    """
    made = _Made()
    packed: list[Span] = []
    rows = size = 0
    for span, span_size in _row_groups(inputs, limit):
        if packed and (rows + span.rows > rows_per_unit or size + span_size > MAX_ENCODED_BYTES):
            made.add(_joined(packed))
            packed, rows, size = [], 0, 0
        pieces = max(-(-span.rows // rows_per_unit), -(-span_size // MAX_ENCODED_BYTES))
        if pieces > 1:
            made.add_cut(span, min(span.rows, pieces))
        else:
            packed.append(span)
            rows, size = rows + span.rows, size + span_size
    if packed:
        made.add(_joined(packed))
    return made.units()


MOST_TASKS = 10_000
"""Of reading, in one execution: a scheduler keeps some 40 KB of each for as long as it lasts."""
MOST_UNITS = 100_000
MOST_READ_BYTES = 1 << 30
"""That a task which joins row groups reads of files, about: what is read again where its machine is lost."""


def read_groups(
    units: Units, inputs: Sequence[InputFile], most: int = MOST_TASKS, most_bytes: int = MOST_READ_BYTES
) -> list[Units]:
    """Units in order, those that hold pieces of the same row group together: what one task should read.

    Where that would make more than ``most`` tasks, neighbours are joined, so that a scheduler need not hold millions, but
    not beyond ``most_bytes``: what one task reads is read again where its machine is lost. A row group that is larger
    stays one task's.
    """
    if not len(units):
        return []
    offsets = dict(zip((file.ordinal for file in inputs), np.cumsum([0, *(f.rows for f in inputs)]), strict=False))
    row_groups = np.cumsum([0, *(rows for file in inputs for rows in file.row_group_rows)])
    offset = np.zeros(int(units.ordinals.max()) + 1, np.int64)
    for ordinal in np.unique(units.ordinals).tolist():
        offset[ordinal] = offsets[ordinal]

    def row_group_of(spans: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.searchsorted(row_groups, offset[units.ordinals[spans]] + row, side="right")
        return found

    first, last = units.first[:-1], units.first[1:] - 1
    begins, ends = row_group_of(first, units.starts[first]), row_group_of(last, units.stops[last] - 1)
    cuts = [0, *(np.flatnonzero(ends[:-1] != begins[1:]) + 1).tolist(), len(units)]
    together = -(-(len(cuts) - 1) // most)
    read = np.cumsum([0, *(size for file in inputs for size in file.row_group_bytes)])
    starts, stops = np.array(cuts[:-1]), np.array(cuts[1:])
    sizes = read[ends[stops - 1]] - read[begins[starts] - 1]
    joined = _joining(sizes, together, most_bytes)
    bounds = [*(cuts[at] for at in joined), len(units)]
    return [units[start:stop] for start, stop in pairwise(bounds)]


def _joining(sizes: NDArray[np.int64], together: int, most_bytes: int) -> list[int]:
    """Where to begin anew when neighbours of these sizes are joined, up to so many and so many bytes."""
    begins, count, size = [0], 0, 0
    for at, own in enumerate(sizes.tolist()):
        if count and (count == together or size + own > most_bytes):
            begins.append(at)
            count = size = 0
        count, size = count + 1, size + own
    return begins


def executions(units: Units, inputs: Sequence[InputFile]) -> list[Units]:
    """Units cut into runs that a scheduler can hold one after the other: by tasks of reading, and by units. Row groups stay
    whole."""
    runs, start, stop, tasks = [], 0, 0, 0
    for group in read_groups(units, inputs):
        if tasks and (tasks == MOST_TASKS or stop - start + len(group) > MOST_UNITS):
            runs.append(units[start:stop])
            start, tasks = stop, 0
        stop, tasks = stop + len(group), tasks + 1
    return [*runs, units[start:stop]] if stop > start else runs


def _row_groups(inputs: Sequence[InputFile], limit: int | None) -> Iterator[tuple[Span, int]]:
    """Every row group with rows as a span with its bytes, up to the limit."""
    left = limit if limit is not None else sum(file.rows for file in inputs)
    for file in inputs:
        start = 0
        for rows, size in zip(file.row_group_rows, file.row_group_bytes, strict=True):
            taken = min(rows, left)
            if taken:
                yield Span(file.ordinal, start, start + taken), size * taken // rows
            start += rows
            left -= taken


class _Made:
    """Gathers spans, and which of them make a unit."""

    def __init__(self) -> None:
        self._spans: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        self._counts: list[NDArray[np.int64]] = []

    def add(self, spans: Sequence[Span]) -> None:
        """One unit of these spans."""
        self._spans.append(_columns([(span.ordinal, span.start, span.stop) for span in spans]))
        self._counts.append(np.array([len(spans)], np.int64))

    def add_cut(self, span: Span, pieces: int) -> None:
        """A span cut evenly into so many units."""
        bounds = span.start + span.rows * np.arange(pieces + 1, dtype=np.int64) // pieces
        self._spans.append((np.full(pieces, span.ordinal, np.int64), bounds[:-1], bounds[1:]))
        self._counts.append(np.ones(pieces, np.int64))

    def units(self) -> Units:
        """All of them, numbered from 0."""
        if not self._counts:
            self._spans.append(_columns([]))
            self._counts.append(np.empty(0, np.int64))
        counts = np.concatenate(self._counts)
        ordinals, starts, stops = (np.concatenate(column) for column in zip(*self._spans, strict=True))
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Units(np.arange(len(counts), dtype=np.int64), first, ordinals, starts, stops)


def _columns(
    spans: Sequence[tuple[int, int, int]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    table = np.asarray(spans, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Neighbouring spans of one file as one."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].ordinal == span.ordinal and joined[-1].stop == span.start:
            joined[-1] = Span(span.ordinal, joined[-1].start, span.stop)
        else:
            joined.append(span)
    return tuple(joined)
