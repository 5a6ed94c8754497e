"""Kinds of source files besides Parquet that are read where they lie: one file a kind, two functions each.

``describe`` finds the row groups of a file, once; ``batches`` reads on from one of them. Who reads rows knows nothing else of a
kind, so that all are cut into the same units and their rows have the same numbers on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from clipmill.source.formats import arrow, tar
from clipmill.source.formats.groups import Groups
from clipmill.source.input_file import InputFile


@dataclass(frozen=True)
class Format:
    """One kind of file. ``describe`` is given an open file, and raises ValueError, which says what is wrong with it;
    ``batches`` a file that has not changed since, the number of a row group and the columns to read."""

    describe: Callable[[pa.NativeFile, int], Groups]
    batches: Callable[[pa.NativeFile, InputFile, int, Sequence[str]], Iterator[pa.RecordBatch]]


_FORMATS = {
    ".arrow": Format(arrow.describe, arrow.batches),
    ".tar": Format(tar.describe, tar.batches),
    ".tar.gz": Format(tar.describe, tar.batches),
    ".tgz": Format(tar.describe, tar.batches),
}
SUFFIXES = tuple(_FORMATS)


def format_of(path: str) -> Format | None:
    """How a source file of this name is read; None for Parquet, and for what is read from memory."""
    return next((kind for suffix, kind in _FORMATS.items() if path.lower().endswith(suffix)), None)
