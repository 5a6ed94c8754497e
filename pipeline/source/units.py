"""Input rows cut into units of work: what one actor call encodes, and what a killed run does again.

A unit holds whole row groups, or a piece of one row group: then the units of that row group are read by one task, so
that no row group is ever read twice. The price is that a unit may be half full where row groups are a little larger
than half a unit.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pipeline.source.inputs import InputFile

MAX_DECODED_BYTES = 64 << 20
MAX_ENCODED_BYTES = 96 << 20
"""Both keep a unit below Ray's block size of 128 MiB, beyond which it would be split anywhere."""
MAX_ROWS = 1024


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


def rows_per_unit(height: int, width: int) -> int:
    """The most rows of a unit: 64 MiB of uint8 RGB images of this size, and between 1 and 1024."""
    return max(1, min(MAX_ROWS, MAX_DECODED_BYTES // (3 * height * width)))


def plan_units(inputs: Sequence[InputFile], rows_per_unit: int, limit: int | None = None) -> Iterator[Unit]:
    """All rows of the inputs (the first ``limit`` of them), each in exactly one unit of at most ``rows_per_unit`` rows.

    Units are smaller where rows are large: they hold about 96 MiB of the file's bytes at most.
    """
    number = 0
    packed: list[Span] = []
    rows = size = 0
    for span, span_size in _row_groups(inputs, limit):
        if packed and (rows + span.rows > rows_per_unit or size + span_size > MAX_ENCODED_BYTES):
            yield Unit(number, _joined(packed))
            number, packed, rows, size = number + 1, [], 0, 0
        pieces = max(-(-span.rows // rows_per_unit), -(-span_size // MAX_ENCODED_BYTES))
        if pieces > 1:
            for piece in _cut_evenly(span, pieces):
                yield Unit(number, (piece,))
                number += 1
        else:
            packed.append(span)
            rows, size = rows + span.rows, size + span_size
    if packed:
        yield Unit(number, _joined(packed))


def read_groups(units: Iterable[Unit], inputs: Sequence[InputFile]) -> list[tuple[Unit, ...]]:
    """Units in order, those that hold pieces of the same row group together: what one task should read."""
    starts = {file.ordinal: [0, *accumulate(file.row_group_rows)] for file in inputs}
    groups: list[list[Unit]] = []
    for unit in units:
        if groups and _share_row_group(groups[-1][-1].spans[-1], unit.spans[0], starts):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [tuple(group) for group in groups]


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


def _cut_evenly(span: Span, pieces: int) -> Iterator[Span]:
    pieces = min(span.rows, pieces)
    for piece in range(pieces):
        start = span.start + span.rows * piece // pieces
        stop = span.start + span.rows * (piece + 1) // pieces
        yield Span(span.ordinal, start, stop)


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Neighbouring spans of one file as one."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].ordinal == span.ordinal and joined[-1].stop == span.start:
            joined[-1] = Span(span.ordinal, joined[-1].start, span.stop)
        else:
            joined.append(span)
    return tuple(joined)


def _share_row_group(before: Span, after: Span, starts: dict[int, list[int]]) -> bool:
    if before.ordinal != after.ordinal:
        return False
    first_rows = starts[before.ordinal]
    return bisect_right(first_rows, before.stop - 1) == bisect_right(first_rows, after.start)
