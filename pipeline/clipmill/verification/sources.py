"""The source files that an embeddings dataset was made from, as `inputs.parquet` lists them and as they are now.

A dataset is whole without them: files that are gone or were changed afterwards are worth a note. But a file that is the
same as then must have at least the rows that were read of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.schemas import INPUTS, ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, LISTING_FILE, Embeddings
from clipmill.source.inputs import etag_of
from clipmill.source.lance_table import table_of
from clipmill.source.listed import FOLDER, is_folder
from clipmill.source.locating import locate
from clipmill.source.names import PARQUET_SUFFIXES
from clipmill.verification.findings import Findings
from clipmill.verification.parallel import in_order
from clipmill.verification.rows import SourceFile

_THREADS = 16
_BATCH_ROWS = 8192


@dataclass(frozen=True)
class _Listed:
    path: str
    size: int
    etag: str
    rows: int


@dataclass(frozen=True)
class _State:
    """``wrong`` is a fault in words, empty where there is none."""

    path: str
    gone: bool = False
    changed: bool = False
    unknown: bool = False
    wrong: str = ""


def source_files(dataset: Embeddings) -> Iterator[SourceFile]:
    """The files in order of their ordinals, a few thousand in memory."""
    gone = _gone(dataset)
    for batch in _batches(dataset, ["ordinal", "path", "rows", "captions"]):
        for file in map(SourceFile, *(column.to_pylist() for column in batch.columns)):
            yield replace(file, gone=gone[file.ordinal]) if file.ordinal in gone else file


def _gone(dataset: Embeddings) -> dict[int, NDArray[np.int64]]:
    """Row numbers below the last one listed of a folder that are not listed, by ordinal; of folders with any."""
    if dataset.listing is None:
        return {}
    rows = dataset.listing.column("row").to_numpy()
    found = {}
    for ordinal in np.unique(rows >> ORDINAL_SHIFT).tolist():
        own = rows[rows >> ORDINAL_SHIFT == ordinal] - (ordinal << ORDINAL_SHIFT)
        missing = np.setdiff1d(np.arange(own.max() + 1), own)
        if len(missing):
            found[ordinal] = missing
    return found


def check_listing(dataset: Embeddings, findings: Findings) -> bool:
    """That the listing is the manifest's, and lists as many pictures of each folder as were read of it; False where it cannot
    be read."""
    try:
        listing = dataset.listing
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(str(error))
        return False
    if listing is None:
        return True
    ordinals = listing.column("row").to_numpy() >> ORDINAL_SHIFT
    counts = dict(zip(*(values.tolist() for values in np.unique(ordinals, return_counts=True)), strict=True))
    for batch in _batches(dataset, ["ordinal", "path", "rows"]):
        for ordinal, path, rows in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if is_folder(path) and counts.get(ordinal, 0) != rows:
                findings.fault(
                    f"{LISTING_FILE} lists {counts.get(ordinal, 0)} pictures of {path}, {INPUTS_FILE} {rows}"
                )
    return True


def check_inputs_table(dataset: Embeddings, findings: Findings) -> None:
    """Its columns, and that its rows and captions add up to what the manifest counts."""
    location = dataset.location / INPUTS_FILE
    with location.filesystem.open_input_file(location.path) as stream:
        if not pq.ParquetFile(stream).schema_arrow.equals(INPUTS):
            findings.fault(f"{INPUTS_FILE} has other columns than it should")
            return
    counts = dataset.manifest.counts
    rows = captions = 0
    for file in source_files(dataset):
        rows, captions = rows + file.rows, captions + file.captions
    if rows != counts.rows:
        findings.fault(f"{INPUTS_FILE} counts {rows} rows, the manifest {counts.rows}")
    if captions != counts.captions + counts.rejected_captions:
        findings.fault(
            f"{INPUTS_FILE} counts {captions} captions, the manifest {counts.captions} and {counts.rejected_captions} "
            "rejected ones"
        )


def check_sources(dataset: Embeddings, findings: Findings) -> None:
    """Notes on files that are gone or changed; a fault for one that is unchanged and has fewer rows than were read."""
    whole_files = dataset.manifest.configuration.get("limit") is None
    listed = (
        _Listed(*values)
        for batch in _batches(dataset, ["path", "size", "etag", "rows"])
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    total = 0
    gone, changed, unknown = _Some(), _Some(), _Some()
    for state in in_order(partial(_state_of, whole_files=whole_files), listed, _THREADS):
        total += 1
        gone.add(state.path, state.gone)
        changed.add(state.path, state.changed)
        unknown.add(state.path, state.unknown)
        if state.wrong:
            findings.fault(state.wrong)
    findings.count("source files", total)
    for some, what in ((gone, "not there any more"), (changed, "changed since"), (unknown, "could not be looked at")):
        if some.count:
            findings.notes.append(f"{some.count} of {total} source files {what} (such as {some.first})")


@dataclass
class _Some:
    count: int = 0
    first: str = ""

    def add(self, path: str, belongs: bool) -> None:
        if belongs:
            self.count += 1
            self.first = self.first or path


def _state_of(listed: _Listed, *, whole_files: bool) -> _State:
    try:
        if is_folder(listed.path):  # what has changed in it is told by the next run, picture by picture
            return _State(listed.path, gone=not storage.exists(locate(listed.path.removesuffix(FOLDER))))
        if (table := table_of(listed.path)) is not None:
            return _State(listed.path, gone=not storage.exists(locate(table)))
        place = locate(listed.path)
        with place.filesystem.open_input_file(place.path) as stream:
            if stream.size() != listed.size or etag_of(place, stream) != listed.etag:
                return _State(listed.path, changed=True)
            if not listed.path.lower().endswith(PARQUET_SUFFIXES):
                return _State(listed.path)
            rows = pq.ParquetFile(stream).metadata.num_rows
    except (StorageFailed, StorageRefused):
        return _State(listed.path, unknown=True)
    except (FileNotFoundError, ClipmillError):
        return _State(listed.path, gone=True)
    except pa.ArrowException as error:
        return _State(listed.path, wrong=f"{listed.path} has not changed, but cannot be read as Parquet: {error}")
    except OSError:
        return _State(listed.path, gone=True)
    if listed.rows == rows or (listed.rows < rows and not whole_files):
        return _State(listed.path)
    return _State(
        listed.path, wrong=f"{listed.path} has {rows} rows and has not changed, but {listed.rows} were read of it"
    )


def _batches(dataset: Embeddings, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Of files that are dead no row is in the dataset."""
    location = dataset.location / INPUTS_FILE
    with location.filesystem.open_input_file(location.path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(_BATCH_ROWS, columns=[*columns, "dead"]):
            yield batch.filter(pc.invert(batch.column("dead"))).select(columns)
