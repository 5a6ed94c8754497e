"""The files beside the codes of one shard, read side by side: position by position the same rows as in the embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill.core.errors import ClipmillError, RunFailed, StorageFailed, StorageRefused
from clipmill.core.schemas import FRAME
from clipmill.datasets.manifests import vectors_of
from clipmill.datasets.shards import Shard
from clipmill.index.build.gallery import Gallery
from clipmill.index.stored import Coding
from clipmill.verification.arrays import ArrayFile
from clipmill.verification.findings import Findings
from clipmill.verification.tables import open_buffered
from clipmill.verification.vectors import check_unit_length

_BATCH_ROWS = 2048
_ROUNDING = 1
"""Steps by which the byte of a component may differ where another processor computed it."""


@dataclass(frozen=True)
class Sidecar:
    """One file beside the codes, at a local path; ``array`` is its header where it is an `.npy`."""

    shard: Shard
    path: Path
    array: ArrayFile | None = None

    def block(self, start: int, rows: int) -> NDArray[Any]:
        """Some rows of an array file."""
        assert self.array is not None
        return self.array.block(self.path, start, rows)


@dataclass(frozen=True)
class Sidecars:
    """The files beside one shard's codes, whose first row is position ``start`` of the gallery; without vectors where the index
    has none."""

    start: int
    vectors: Sidecar | None
    rows: Sidecar
    row_table: Sidecar


class _Feed:
    """The gallery from one position on, in pieces of any length."""

    def __init__(self, gallery: Gallery, start: int, stop: int, columns: list[str]) -> None:
        self._batches: Iterator[pa.RecordBatch] = gallery.batches(start, stop, [*columns, "embedding"], _BATCH_ROWS)
        self._left: pa.RecordBatch | None = None

    def take(self, rows: int) -> pa.Table:
        """The next rows. Raises RunFailed when there are not so many."""
        taken = []
        while rows:
            batch = self._left or next(self._batches, None)
            if batch is None:
                raise RunFailed("they end before the index does")
            taken.append(batch.slice(0, rows))
            self._left = batch.slice(rows) if batch.num_rows > rows else None
            rows -= taken[-1].num_rows
        return pa.Table.from_batches(taken).combine_chunks()


def may_repeat(columns: Sequence[str]) -> bool:
    """Whether a row table with these columns may have several lines of one row: captions, or pictures of a video."""
    return not {"caption_index", FRAME}.isdisjoint(columns)


def check_sidecars(files: Sidecars, coding: Coding | None, gallery: Gallery | None, findings: Findings) -> None:
    """Vectors of unit length where they are stored as embedded, rows in order and the same in array and table; all as in
    ``gallery`` where there is one. What bytes of vectors mean is not known without their ``coding``."""
    rows_in_all = files.rows.shard.rows
    with open_buffered(files.row_table.path) as table:
        columns = table.schema_arrow.names
        feed = _Feed(gallery, files.start, files.start + rows_in_all, columns) if gallery else None
        at, last = 0, -1
        for batch in table.iter_batches(_BATCH_ROWS, use_threads=False):
            rows = files.rows.block(at, batch.num_rows)
            vectors = None if files.vectors is None else files.vectors.block(at, batch.num_rows)
            if files.vectors is not None and vectors is not None and vectors.dtype == np.float16:
                check_unit_length(vectors, rows, files.vectors.shard.name, findings)
            _check_rows(rows, batch.column("row").to_numpy(), at, last, files, findings)
            if feed is not None:
                try:
                    truth = feed.take(batch.num_rows)
                except (StorageFailed, StorageRefused):
                    raise
                except (pa.ArrowException, OSError, ClipmillError) as error:
                    findings.fault(f"the embeddings cannot be compared with: {str(error).splitlines()[0]}")
                    truth, feed = None, None
                if truth is not None:
                    _compare(rows, batch, truth, files, findings)
                    if files.vectors is not None and vectors is not None and coding is not None:
                        _compare_vectors(rows, vectors, truth, files.vectors.shard, coding, findings)
            at, last = at + batch.num_rows, int(rows[-1])


def _check_rows(
    rows: NDArray[np.int64], listed: NDArray[np.int64], at: int, last: int, files: Sidecars, findings: Findings
) -> None:
    for place in np.flatnonzero(rows != listed)[:1].tolist():
        findings.fault(
            f"{files.rows.shard.name} has row {rows[place]} at position {files.start + at + place}, "
            f"{files.row_table.shard.name} has row {listed[place]} there"
        )
    steps = np.diff(np.concatenate([[last], rows]))
    repeats = may_repeat(pq.read_schema(files.row_table.path).names)
    for place in np.flatnonzero(steps < 0 if repeats else steps <= 0)[:1].tolist():
        what = "is here twice" if steps[place] == 0 else "comes after a later one"
        findings.fault(f"{files.rows.shard.name}: row {rows[place]} at position {files.start + at + place} {what}")


def _compare(
    rows: NDArray[np.int64], batch: pa.RecordBatch, truth: pa.Table, files: Sidecars, findings: Findings
) -> None:
    expected = truth.column("row").to_numpy()
    for place in np.flatnonzero(rows != expected)[:1].tolist():
        findings.fault(f"{files.rows.shard.name} has row {rows[place]} where the embeddings have row {expected[place]}")
    for name in batch.schema.names:
        given, wanted = batch.column(name), truth.column(name).combine_chunks()
        if not given.equals(wanted):
            place = _first_difference(given, wanted)
            findings.fault(f"{files.row_table.shard.name}: {name} of row {rows[place]} is not that of the embeddings")
    findings.count("rows compared with the embeddings", len(rows))


def _compare_vectors(
    rows: NDArray[np.int64], stored: NDArray[Any], truth: pa.Table, shard: Shard, coding: Coding, findings: Findings
) -> None:
    expected = coding.encode(vectors_of(truth.column("embedding")))
    if stored.dtype == np.float16:
        same = (stored.view(np.uint16) == expected.view(np.uint16)).all(axis=1)
    else:
        same = (np.abs(stored.astype(np.int16) - expected) <= _ROUNDING).all(axis=1)
    for place in np.flatnonzero(~same).tolist():
        findings.fault(f"{shard.name}: the vector of row {rows[place]} is not that of the embeddings")


def _first_difference(one: pa.Array, other: pa.Array) -> int:
    if one.type != other.type:
        return 0
    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), 0)
