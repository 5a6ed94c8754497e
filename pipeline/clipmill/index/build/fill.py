"""Filling one shard: a run of the gallery streamed into a trained index and the three files beside it."""

import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.datasets.manifests import vectors_of
from clipmill.datasets.shards import Shard
from clipmill.index.build.footprint import Footprint, measured_footprint
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.layout import ShardRange
from clipmill.index.search.refined import header_bytes
from clipmill.index.sides import bare
from clipmill.index.stored import Coding
from clipmill.storage import Location, Written

BATCH_ROWS = 8192
_NPY_START, _NPY_ALIGNED, _NPY_MOST = 10, 64, 65_472
"""Bytes of an `.npy` file before the text of its header, the multiple at which the array begins, and the last where it may."""
ROW_GROUP_ROWS = 1024
"""Rows read to fetch the columns of one result: few, so that it takes a millisecond or two."""


@dataclass(frozen=True)
class Filled:
    """What one shard became: its files, and what its index keeps resident."""

    files: list[Shard]
    footprint: Footprint


def fill_shard(
    gallery: Gallery,
    place: ShardRange,
    index: Any,
    output: Location,
    on_batch: Callable[[], object] = lambda: None,
    *,
    holds_vectors: bool = False,
    without_transform: bool = False,
    coding: Coding | None = None,
) -> Filled:
    """Adds the vectors of ``place`` to ``index`` and writes the shard's files to ``output``.

    ``index`` is trained and empty, or ``holds_vectors`` already, which are not added then. ``without_transform``: what vectors
    pass before its lists is left out of the file, since queries pass another. ``coding`` says how vectors are stored; None:
    they are not. Memory is that of the index and of a few batches; ``on_batch`` is called after each batch. Running it again
    replaces the files by the same.
    Raises RunFailed for a vector that is not finite: FAISS would count it and not store it.
    """
    rows: list[int] = []
    with ExitStack() as stack:
        rows_stream = stack.enter_context(storage.atomic_writer(output / place.file("rows")))
        table_stream = stack.enter_context(storage.atomic_writer(output / place.file("row_table")))
        write_npy_header(rows_stream, "<i8", (place.rows,))
        vectors_stream = None
        if coding is not None:
            vectors_stream = stack.enter_context(storage.atomic_writer(output / place.file("vectors")))
            write_npy_header(vectors_stream, coding.dtype, (place.rows, gallery.dimension), header_bytes(coding))
        table_writer: pq.ParquetWriter | None = None
        columns = [*gallery.row_columns, "embedding"]
        for batch in gallery.batches(place.start, place.stop, columns, BATCH_ROWS):
            vectors = vectors_of(batch.column("embedding"))
            batch_rows = batch.column("row").to_numpy()
            _refuse_non_finite(vectors, batch_rows, gallery)
            if not holds_vectors:
                index.add(vectors.astype(np.float32))
            if vectors_stream is not None and coding is not None:
                vectors_stream.write(coding.encode(vectors))
            rows_stream.write(np.ascontiguousarray(batch_rows, dtype="<i8"))
            rows += [int(batch_rows[0]), int(batch_rows[-1])]
            kept = pa.Table.from_batches([batch]).select(gallery.row_columns)
            if table_writer is None:
                table_writer = stack.enter_context(pq.ParquetWriter(table_stream, kept.schema, compression="zstd"))
            table_writer.write_table(kept, row_group_size=ROW_GROUP_ROWS)
            on_batch()
    _refuse_missing(index, place, gallery)
    written = bare(index) if without_transform else index
    files = {
        "index": write_index(written, output / place.file("index")),
        **({} if vectors_stream is None else {"vectors": vectors_stream.written}),
        "rows": rows_stream.written,
        "row_table": table_stream.written,
    }
    shards = [
        Shard(part, place.file(part), place.rows, file.bytes, file.sha256, rows[0], rows[-1])
        for part, file in files.items()
    ]
    return Filled(shards, measured_footprint(written))


def _refuse_missing(index: Any, place: ShardRange, gallery: Gallery) -> None:
    if index.ntotal != place.rows:
        raise RunFailed(
            f"{gallery.dataset.location}: {index.ntotal} {gallery.part} were read for positions {place.start} to "
            f"{place.stop - 1}, which are {place.rows}: its files do not hold the rows that its manifest counts"
        )


def write_index(index: Any, location: Location) -> Written:
    """One FAISS file, whole or not at all, streamed to wherever it goes."""
    with storage.atomic_writer(location) as stream:
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))
    return stream.written


def write_npy_header(stream: Any, dtype: str, shape: tuple[int, ...], least: int = 0) -> None:
    """What an `.npy` file of such an array begins with, of ``least`` bytes or more, where the format allows so many: it may
    end with spaces."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    text = header.getvalue()[_NPY_START:].rstrip()
    size = max(len(header.getvalue()), -(-least // _NPY_ALIGNED) * _NPY_ALIGNED if least <= _NPY_MOST else 0)
    filled = text.ljust(size - _NPY_START - 1) + b"\n"
    stream.write(header.getvalue()[: _NPY_START - 2] + struct.pack("<H", len(filled)) + filled)


def _refuse_non_finite(vectors: NDArray[np.float16], rows: NDArray[np.int64], gallery: Gallery) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise RunFailed(
            f"{gallery.dataset.location}: the embedding of row {rows[np.argmin(finite)]} in {gallery.part} holds NaN "
            f"or infinity ({int((~finite).sum())} such rows in this batch), which no index can store; embed it again"
        )
