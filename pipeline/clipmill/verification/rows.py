"""Every input row is exactly one image or one reject, every caption likewise, and every sound and video where the dataset has
such: counted along the rows, never all at once.

Files of the dataset are handed over in order of their first row. Once a file begins with row r, all that is to come
lies at r or above, so what lies below can be settled and forgotten. Memory holds the row numbers of the files that
overlap at one place.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.verification.findings import Findings

Rows = NDArray[np.int64]

_MOST_NAMED = 20
ITEMS = {"images": "an image", "audio": "a sound", "videos": "a video"}
"""Of the parts that have at most one row for each of the input, what one of them is called."""
KINDS = {"image": "images", "audio": "audio", "video": "videos", "caption": "captions"}
"""The part that a reject of each kind is missing from."""


def rejected(part: str) -> str:
    """The stream of rejects that are missing from a part."""
    return f"rejected {part}"


@dataclass(frozen=True)
class SourceFile:
    """One line of ``inputs.parquet``: rows and captions that were read of this file.

    Of a listed folder ``gone`` are the rows, ascending, whose pictures are not there any more.
    """

    ordinal: int
    path: str
    rows: int
    captions: int
    gone: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def end(self) -> int:
        """One more than its last row."""
        return self.rows + len(self.gone)


@dataclass
class _Waiting:
    """Keys of one stream that are not settled yet, in order of row."""

    rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    index: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, rows: Rows, index: Rows) -> None:
        self.rows, self.index = np.concatenate([self.rows, rows]), np.concatenate([self.index, index])

    def take(self, below: int) -> "_Waiting":
        cut = int(np.searchsorted(self.rows, below))
        taken = _Waiting(self.rows[:cut], self.index[:cut])
        self.rows, self.index = self.rows[cut:].copy(), self.index[cut:].copy()
        return taken

    @property
    def distinct(self) -> Rows:
        """The rows, each once where its keys differ: pictures of one video."""
        order = np.lexsort((self.index, self.rows))
        rows, index = self.rows[order], self.index[order]
        others = (rows[1:] == rows[:-1]) & (index[1:] != index[:-1])
        return rows[np.concatenate([[True], ~others])] if len(rows) else rows

    @property
    def first(self) -> int | None:
        return int(self.rows[0]) if len(self.rows) else None


@dataclass
class _Items:
    """Of a part, what there was of the source file that is being settled."""

    found: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    lost_rows: int = 0


@dataclass
class _Seen:
    """What there was of the source file that is being settled."""

    settled: int = 0
    captions: int = 0
    items: defaultdict[str, _Items] = field(default_factory=lambda: defaultdict(_Items))


class RowAccount:
    """Settles rows in their order. ``parts`` are those with a row at most for each of the input, ``holders`` names the files
    of a part that hold, or should hold, a row."""

    def __init__(
        self,
        files: Iterator[SourceFile],
        parts: Sequence[str],
        holders: Callable[[str, int], str],
        findings: Findings,
    ) -> None:
        self._files = files
        self._parts = tuple(parts)
        self._file = next(files, None)
        self._seen = _Seen()
        self._holders = holders
        self._findings = findings
        every = (*self._parts, "captions")
        self._waiting = {stream: _Waiting() for part in every for stream in (part, rejected(part))}
        self.without: Counter[str] = Counter()

    def add(self, stream: str, rows: Rows, index: Rows) -> None:
        """Row numbers in order, with what tells items of one row apart: caption indices, numbers of pictures (0 for others)."""
        if stream in self._waiting:
            self._waiting[stream].add(rows, index)
        elif len(rows):
            self._findings.fault(f"{len(rows)} {stream} are here, but the dataset has no such part")

    def settle(self, below: int) -> None:
        """Nothing below this row is to come any more."""
        while self._file is not None and self._file.ordinal << ORDINAL_SHIFT < below:
            self._refuse_unlisted(self._file.ordinal << ORDINAL_SHIFT)
            end = self._file.ordinal + 1 << ORDINAL_SHIFT
            self._settle_rows(self._file, min(below, end))
            if end > below:
                return
            self._close(self._file)
        self._refuse_unlisted(below)

    def finish(self) -> None:
        """All has come."""
        self.settle(1 << 62)

    def _refuse_unlisted(self, below: int) -> None:
        for stream, waiting in self._waiting.items():
            for ordinal in np.unique(waiting.take(below).rows >> ORDINAL_SHIFT).tolist():
                self._findings.fault(
                    f"{stream} of a source file with ordinal {ordinal} are here, but inputs.parquet does not list it"
                )

    def _settle_rows(self, file: SourceFile, below: int) -> None:
        base = file.ordinal << ORDINAL_SHIFT
        stop = max(self._seen.settled, min(below - base, file.end))
        for part in self._parts:
            found, rejects = (self._waiting[stream].take(below) for stream in (part, rejected(part)))
            self._settle_items(file, part, found.distinct - base, rejects.rows - base, stop)
        captions, caption_rejects = (self._waiting[name].take(below) for name in ("captions", rejected("captions")))
        row = np.concatenate([captions.rows, caption_rejects.rows]) - base
        self._settle_captions(file, row, np.concatenate([captions.index, caption_rejects.index]))
        self._seen.settled = stop

    def _settle_items(self, file: SourceFile, part: str, embedded: Rows, rejects: Rows, stop: int) -> None:
        """Rows from where it was settled up to ``stop``; a file without such a column has none at all."""
        seen = self._seen.items[part]
        found = np.sort(np.concatenate([embedded, rejects]))
        seen.found += len(found)
        self._refuse_beyond(file, found, "row")
        for row in np.unique(found[1:][found[1:] == found[:-1]]).tolist():
            self._findings.fault(f"{self._name(file, row)} {self._doubled(file, part, row, embedded, rejects)}")
        for row in np.intersect1d(found, file.gone).tolist():
            self._findings.fault(f"{self._name(file, row)} is here, but listing.parquet does not list it")
        there = np.union1d(found[found < stop], file.gone[(file.gone >= self._seen.settled) & (file.gone < stop)])
        edges = np.concatenate([[self._seen.settled - 1], there, [stop]])
        for at in np.flatnonzero(np.diff(edges) > 1).tolist():
            first, last = int(edges[at]) + 1, int(edges[at + 1]) - 1
            seen.lost_rows += last - first + 1
            if len(seen.lost) < _MOST_NAMED:
                seen.lost.append((first, last))

    def _doubled(self, file: SourceFile, part: str, row: int, embedded: Rows, rejects: Rows) -> str:
        here, refused = int((embedded == row).sum()), int((rejects == row).sum())
        key = (file.ordinal << ORDINAL_SHIFT) + row
        parts = [name for name, times in ((part, here), ("rejected", refused)) if times]
        where = ", ".join(self._holders(name, key) for name in parts)
        if here and refused:
            return f"is both {ITEMS[part]} and a reject ({where})"
        return f"is here {here + refused} times ({where})"

    def _settle_captions(self, file: SourceFile, row: Rows, index: Rows) -> None:
        """Captions of one row are numbered from 0 without a gap, embedded and rejected ones together."""
        self._seen.captions += len(row)
        if not len(row):
            return
        order = np.lexsort((index, row))
        row, index = row[order], index[order]
        self._refuse_beyond(file, row, "a caption of row")
        starts = np.concatenate([[True], np.diff(row) > 0])
        wanted = np.where(starts, 0, np.concatenate([[0], index[:-1] + 1]))
        for at in np.flatnonzero(index != wanted).tolist():
            twice = not starts[at] and index[at] == index[at - 1]
            what = "is here twice" if twice else f"is here, but caption {int(wanted[at])} is not: it is lost"
            where = self._holders("captions", (file.ordinal << ORDINAL_SHIFT) + int(row[at]))
            self._findings.fault(f"{self._name(file, int(row[at]))}: caption {int(index[at])} {what} ({where})")

    def _refuse_beyond(self, file: SourceFile, rows: Rows, what: str) -> None:
        if len(rows) and rows[-1] >= file.end:
            self._findings.fault(f"{file.path}: {what} {rows[-1]} is here, but {file.rows} rows were read of it")

    def _close(self, file: SourceFile) -> None:
        seen, self._seen = self._seen, _Seen()
        for part in self._parts:
            if seen.items[part].found:
                self._tell_lost(file, part, seen.items[part])
            else:
                self.without[part] += file.rows
        if seen.captions != file.captions:
            self._findings.fault(
                f"{file.path}: {seen.captions} captions and caption rejects are here, but {file.captions} were read"
            )
        self._findings.count("rows", file.rows)
        following = next(self._files, None)
        if following is not None and following.ordinal <= file.ordinal:
            self._findings.fault(f"inputs.parquet lists ordinal {following.ordinal} after {file.ordinal}")
            following = None
        self._file = following

    def _tell_lost(self, file: SourceFile, part: str, seen: _Items) -> None:
        told = 0
        for first, last in seen.lost:
            where = self._holders(part, (file.ordinal << ORDINAL_SHIFT) + first)
            rows = f"row {first} is" if first == last else f"rows {first} to {last} are"
            lost = "it is lost" if first == last else "they are lost"
            self._findings.fault(f"{file.path}: {rows} neither {ITEMS[part]} nor a reject: {lost} ({where})")
            told += last - first + 1
        if seen.lost_rows > told:
            self._findings.fault(f"{file.path}: {seen.lost_rows - told} more rows are lost")

    def _name(self, file: SourceFile, row: int) -> str:
        return f"{file.path}: row {row}"
