"""Input rows cut into units of work.

A unit holds whole row groups, or a piece of one row group. The price is that a unit may be half full where row groups are
a little larger than half a unit. Everything here works on arrays: five billion rows are some ten million units, and they
are cut in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from clipmill.source.input_file import InputFile
from clipmill.source.units import Units

MAX_DECODED_BYTES = 64 << 20
MAX_ENCODED_BYTES = 96 << 20
"""Both keep a unit below Ray's block size of 128 MiB, beyond which it would be split anywhere."""
MAX_ROWS = 1024
LEAST_ROWS, LEAST_UNITS = 64, 16


def rows_per_unit(height: int, width: int, rows: int, beside: int = 0) -> int:
    """The most rows of a unit: 64 MiB of uint8 RGB images of this size and ``beside`` bytes a row, and between 1 and 1024.
    Of few ``rows`` in all it is a sixteenth, but not below 64: a small input keeps all encoders busy too."""
    most = max(1, min(MAX_ROWS, MAX_DECODED_BYTES // (3 * height * width + beside)))
    return min(most, max(LEAST_ROWS, -(-rows // LEAST_UNITS)))


def plan_units(inputs: Sequence[InputFile], rows_per_unit: int, limit: int | None = None) -> Units:
    """All rows of the inputs (the first ``limit`` of them), each in exactly one unit of at most ``rows_per_unit`` rows.

    Units are smaller where rows are large: they hold about 96 MiB of the file's bytes at most.
    """
    groups = RowGroups.of(inputs).limited(limit)
    # In how many units each row group is cut: one that fits into a unit is not, and shares it with its neighbours.
    pieces = np.maximum(-(-groups.rows // rows_per_unit), -(-groups.bytes // MAX_ENCODED_BYTES))
    pieces = np.maximum(1, np.minimum(pieces, groups.rows))
    packs = _packs(groups, pieces, rows_per_unit)
    # A span is a run of row groups of one file in one unit; one of several pieces stands for that many spans.
    begins = packs.copy()
    begins[1:] |= groups.ordinals[1:] != groups.ordinals[:-1]
    at = np.flatnonzero(begins)
    ends = np.append(at[1:], len(begins))[: len(at)]
    starts = groups.starts[at]
    rows = groups.starts[ends - 1] + groups.rows[ends - 1] - starts
    counts = pieces[at]
    # Each span once for each of its pieces, which share its rows evenly.
    until = np.cumsum(counts)
    piece = np.arange(until[-1] if len(until) else 0) - np.repeat(until - counts, counts)
    starts, rows, of = (np.repeat(column, counts) for column in (starts, rows, counts))
    opens = np.repeat(packs[at], counts)
    first = np.append(np.flatnonzero(opens), len(opens)).astype(np.int64)
    return Units(
        numbers=np.arange(len(first) - 1, dtype=np.int64),
        first=first,
        ordinals=np.repeat(groups.ordinals[at], counts),
        starts=starts + rows * piece // of,
        stops=starts + rows * (piece + 1) // of,
    )


@dataclass(frozen=True, eq=False)
class RowGroups:
    """The row groups of some files, in order. All int64 (n): ``ordinals`` of their files, ``starts`` their first rows in these,
    their ``rows``, and their ``bytes`` before compression."""

    ordinals: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    bytes: NDArray[np.int64]

    @classmethod
    def of(cls, inputs: Sequence[InputFile]) -> RowGroups:
        """All of these files, those without rows too."""
        counts = np.fromiter((len(file.row_group_rows) for file in inputs), np.int64, len(inputs))
        total = int(counts.sum())
        rows = np.fromiter(chain.from_iterable(file.row_group_rows for file in inputs), np.int64, total)
        sizes = np.fromiter(chain.from_iterable(file.row_group_bytes for file in inputs), np.int64, total)
        ordinals = np.repeat(np.fromiter((file.ordinal for file in inputs), np.int64, len(inputs)), counts)
        before = np.cumsum(rows) - rows
        begins = np.append(0, np.cumsum(counts))[:-1]
        whole = np.append(before, rows.sum())[begins]
        return cls(ordinals, before - np.repeat(whole, counts), rows, sizes)

    def limited(self, limit: int | None) -> RowGroups:
        """Those that have rows among the first ``limit``; the last with no more of its rows and bytes than these are."""
        rows, sizes = self.rows, self.bytes
        if limit is not None:
            rows = np.clip(limit - (np.cumsum(rows) - rows), 0, rows)
            cut = np.flatnonzero((rows > 0) & (rows < self.rows))
            sizes = sizes.copy()
            sizes[cut] = [int(sizes[at]) * int(rows[at]) // int(self.rows[at]) for at in cut]
        some = rows > 0
        if some.all():
            return RowGroups(self.ordinals, self.starts, rows, sizes)
        return RowGroups(self.ordinals[some], self.starts[some], rows[some], sizes[some])


def _packs(groups: RowGroups, pieces: NDArray[np.int64], rows_per_unit: int) -> NDArray[np.bool_]:
    """By row group, bool (n): whether a unit begins with it. Neighbours share a unit for as long as it has room for them."""
    count = len(pieces)
    begins = np.zeros(count, np.bool_)
    rows, sizes = (np.append(0, np.cumsum(column)) for column in (groups.rows, groups.bytes))
    # Where a unit that begins at a row group ends: at the first that has no room in it, or is cut into several itself.
    full = np.searchsorted(rows, rows[:-1] + rows_per_unit, side="right") - 1
    full = np.minimum(full, np.searchsorted(sizes, sizes[:-1] + MAX_ENCODED_BYTES, side="right") - 1)
    cut = np.append(np.flatnonzero(pieces > 1), count)
    following = cut[np.searchsorted(cut, np.arange(count))]
    ends = np.maximum(np.minimum(full, following), np.arange(1, count + 1))
    at, ahead = 0, memoryview(ends.astype(np.int64))
    while at < count:
        begins[at] = True
        at = ahead[at]
    return begins
