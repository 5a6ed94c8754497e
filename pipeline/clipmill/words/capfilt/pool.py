"""The texts about each picture: the captions of its row and what was written about it, together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

ORIGINAL, GENERATED = "original", "generated"


@dataclass(frozen=True)
class Text:
    """One text about the row at a place of a unit. ``number`` is its place among the captions of the row, or the candidate."""

    at: int
    source: str
    number: int
    text: str | None

    @property
    def has_words(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.text and self.text.strip())


def pooled(raw: pa.Table, written: pa.Table) -> Iterator[Text]:
    """The texts of a unit's rows: of each row its captions, then what was written about it."""
    rows = raw.column("row").to_numpy()
    of_row = _by_row(written, rows)
    for at, captions in enumerate(raw.column("captions").to_pylist()):
        for number, caption in enumerate(captions or ()):
            yield Text(at, ORIGINAL, number, caption)
        for one in of_row[at]:
            yield Text(at, GENERATED, one["candidate"], one["text"])


def _by_row(written: pa.Table, rows: np.ndarray) -> Sequence[Sequence[dict[str, Any]]]:
    known = written.column("row").to_numpy() if written.num_rows else np.empty(0, np.int64)
    starts, stops = np.searchsorted(known, rows), np.searchsorted(known, rows, side="right")
    return [
        written.slice(start, stop - start).to_pylist()
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
