"""Which neighbours become one file: what each night brings is a file of its own, and small ones would pile up.

Tiered compaction as in log-structured merge trees (O'Neil et al., 1996): neighbours become one where that one is at least
``GROWTH`` times the largest of them. So a row is written again at most log₈(rows of a full file ÷ rows of a night) times,
whatever the number of nights; what is larger than a ninth of a full file is never written again; and of small files a few
dozen are left at most, about seven of each size.
"""

from collections.abc import Iterator, Sequence

from clipmill.core.schemas import ROWS_PER_SHARD

GROWTH = 8


def compacted(sizes: Sequence[int], full: int = ROWS_PER_SHARD) -> list[range]:
    """Neighbours that become one, as ranges that cover all of ``sizes`` (rows of each file) in order; of most files the
    range is that file alone. What is joined stays within ``full`` rows."""
    ranges: list[range] = []
    start = 0  # a stretch that is cut where it is full has more than 8/9 of that, which is enough to be joined
    while start < len(sizes):
        stop, total = start, 0
        while stop < len(sizes) and (GROWTH + 1) * sizes[stop] <= full and total + sizes[stop] <= full:
            total += sizes[stop]
            stop += 1
        stop = max(stop, start + 1)
        ranges += _joined(sizes, start, stop)
        start = stop
    return ranges


def _joined(sizes: Sequence[int], start: int, stop: int) -> Iterator[range]:
    """The whole stretch where it is large enough beside its largest file; else the same on both sides of that file."""
    if start == stop:
        return
    largest = max(range(start, stop), key=sizes.__getitem__)
    if stop - start == 1 or sum(sizes[start:stop]) >= GROWTH * sizes[largest]:
        yield range(start, stop)
        return
    yield from _joined(sizes, start, largest)
    yield range(largest, largest + 1)
    yield from _joined(sizes, largest + 1, stop)
