"""Which units are read together: those that hold pieces of one row group, so that no row group is read twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clipmill.source.cutting import RowGroups
from clipmill.source.input_file import InputFile
from clipmill.source.listed import part_of
from clipmill.source.units import Units

MOST_TASKS = 10_000
"""Of reading, in one execution: a scheduler keeps some 40 KB of each for as long as it lasts."""
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
    found = _RowGroupsOf(units, inputs)
    cuts = found.cuts
    starts, stops = cuts[:-1], cuts[1:]
    sizes = found.until[found.ends[stops - 1] + 1] - found.until[found.begins[starts]]
    together = -(-len(sizes) // most)
    joined = _joining(sizes, together, most_bytes)
    bounds = [*cuts[joined].tolist(), len(units)]
    return [units[start:stop] for start, stop in pairwise(bounds)]


def slices(units: Units, inputs: Sequence[InputFile], most: int) -> list[slice]:
    """Consecutive runs of at most ``most`` units that share no row group, of about equal size. One row group's units stay
    together, were they more."""
    if not len(units):
        return []
    cuts = _RowGroupsOf(units, inputs).cuts
    bounds = [0]
    while bounds[-1] < len(units):
        left = len(units) - bounds[-1]
        wanted = bounds[-1] + -(-left // -(-left // most))
        at = int(np.searchsorted(cuts, wanted, side="right")) - 1
        if cuts[at] <= bounds[-1]:
            at += 1
        bounds.append(int(cuts[at]))
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def files_of(units: Units, inputs: Mapping[int, InputFile]) -> list[InputFile]:
    """The source files of some units, by their ordinals, with no more in memory than these read of each."""
    needed = []
    for ordinal in np.unique(units.ordinals).tolist():
        file = inputs[ordinal]
        if file.listed is not None:
            of = units.ordinals == ordinal
            file = part_of(file, int(units.starts[of].min()), int(units.stops[of].max()))
        needed.append(file)
    return needed


class _RowGroupsOf:
    """In which row groups units lie: ``begins`` and ``ends`` (n) are the first and last of each unit; ``cuts`` where units
    begin that share no row group with the one before, and the end of all; ``until`` the bytes before each row group."""

    def __init__(self, units: Units, inputs: Sequence[InputFile]) -> None:
        groups = RowGroups.of(inputs)
        # A row's place in the whole input is the offset of its file plus its number: that finds its row group.
        before = np.append(0, np.cumsum(groups.rows))
        self.until = np.append(0, np.cumsum(groups.bytes))
        offset = np.zeros(1 + max(file.ordinal for file in inputs), np.int64)
        rows = np.fromiter((file.rows for file in inputs), np.int64, len(inputs))
        offset[[file.ordinal for file in inputs]] = np.cumsum(rows) - rows

        def holds(spans: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
            found: NDArray[np.int64] = np.searchsorted(before, offset[units.ordinals[spans]] + row, side="right") - 1
            return found

        first, last = units.first[:-1], units.first[1:] - 1
        self.begins, self.ends = holds(first, units.starts[first]), holds(last, units.stops[last] - 1)
        apart = np.flatnonzero(self.ends[:-1] != self.begins[1:]) + 1
        self.cuts = np.concatenate([[0], apart, [len(units)]]).astype(np.int64)


def _joining(sizes: NDArray[np.int64], together: int, most_bytes: int) -> NDArray[np.int64]:
    """Where to begin anew when neighbours of these sizes are joined, up to so many and so many bytes."""
    until = np.append(0, np.cumsum(sizes))
    begins, at = [], 0
    while at < len(sizes):
        begins.append(at)
        room = int(np.searchsorted(until, until[at] + most_bytes, side="right")) - 1
        at = max(at + 1, min(at + together, room))
    return np.array(begins, np.int64)
