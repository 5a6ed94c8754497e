"""Many queries at once: vectors or texts from a file in, one Parquet file of results out, in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import UserError
from pipeline.index.search import Index
from pipeline.schemas import SEARCH_RESULTS
from pipeline.storage import Location

BATCH_QUERIES = 4096
Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def search_batch(index: Index, queries: str, output: str, k: int, encode: Encode) -> int:
    """Searches every query of a file and writes ``query, rank, row, id, score``, sorted by query and rank.

    ``query`` counts from 0 in the order of the file; ``encode`` turns texts into vectors and is called only for texts.
    Returns the number of queries. Raises UserError for a file that holds neither vectors nor texts.
    """
    done = 0
    with storage.atomic_writer(storage.resolve(output)) as stream, pq.ParquetWriter(stream, SEARCH_RESULTS) as writer:
        for vectors in query_vectors(storage.resolve(queries), index.dimension, encode):
            writer.write_table(_results(index, vectors, done, k))
            done += len(vectors)
    return done


def _results(index: Index, vectors: NDArray[np.float32], first: int, k: int) -> pa.Table:
    scores, positions = index.search(vectors, k)
    found = positions >= 0
    query, rank = np.nonzero(found)
    ids = index.table.fetch(positions[found], ["id"]).column("id")
    columns = [query + first, (rank + 1).astype(np.int32), index.rows_at(positions)[found], ids, scores[found]]
    return pa.table(columns, schema=SEARCH_RESULTS)


def query_vectors(queries: Location, dimension: int, encode: Encode) -> Iterator[NDArray[np.float32]]:
    """Query vectors (at most BATCH_QUERIES, d) float32 of unit length, in the order of the file."""
    if not storage.exists(queries):
        raise UserError(f"--queries {queries}: there is no such file")
    batches = _from_npy(queries) if queries.name.endswith(".npy") else _from_parquet(queries, encode)
    for vectors in batches:
        if vectors.ndim != 2 or vectors.shape[1] != dimension:
            raise UserError(
                f"--queries {queries} holds vectors of shape {vectors.shape[1:]}, the index is of {dimension} "
                "dimensions: make them with the model that made the index"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or (lengths == 0).any():
            raise UserError(f"--queries {queries} holds a vector of zeros, NaN or infinity")
        yield vectors / lengths


def _from_npy(queries: Location) -> Iterator[NDArray[np.float32]]:
    if not queries.is_local:
        raise UserError(f"--queries {queries}: give .npy files on a local disk, or Parquet")
    try:
        array: NDArray[Any] = np.load(Path(queries.path), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"--queries {queries} is not a .npy file of numbers: {error}") from None
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"--queries {queries} has shape {array.shape} of {array.dtype}; floats of shape (n, d) are needed"
        )
    for start in range(0, len(array), BATCH_QUERIES):
        yield np.array(array[start : start + BATCH_QUERIES], dtype=np.float32)


def _from_parquet(queries: Location, encode: Encode) -> Iterator[NDArray[np.float32]]:
    with queries.filesystem.open_input_file(queries.path) as stream:
        try:
            parquet = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise UserError(f"--queries {queries} is neither .npy nor Parquet: {error}") from None
        names = parquet.schema_arrow.names
        column = next((name for name in ("embedding", "text") if name in names), None)
        if column is None:
            raise UserError(
                f"--queries {queries} has no column `embedding` (vectors) or `text`; it has {', '.join(names)}"
            )
        for batch in parquet.iter_batches(BATCH_QUERIES, columns=[column]):
            values = batch.column(0)
            if values.null_count:
                raise UserError(f"--queries {queries}: the column `{column}` has empty values; fill or remove them")
            yield encode(values.to_pylist()) if column == "text" else _vectors(values, queries)


def _vectors(values: pa.Array, queries: Location) -> NDArray[np.float32]:
    if not (
        pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type) or pa.types.is_large_list(values.type)
    ):
        raise UserError(f"--queries {queries}: the column `embedding` is {values.type}, not lists of numbers")
    flat = values.flatten()
    if flat.null_count or len(flat) % max(len(values), 1):
        raise UserError(f"--queries {queries}: the vectors in `embedding` are of different lengths or have gaps")
    return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), -1)
