"""Files of queries: vectors or texts, read in batches and checked before any of them is searched."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.storage import Location

BATCH_QUERIES = 4096
Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class QueryFile:
    """A file of queries, and the option that names it."""

    place: Location
    option: str = "--queries"

    def __str__(self) -> str:
        return f"{self.option} {self.place}"


def query_vectors(queries: QueryFile, dimension: int, encode: Encode) -> Iterator[NDArray[np.float32]]:
    """Query vectors (at most BATCH_QUERIES, d) float32 of unit length, in the order of the file. Raises UserError for a file
    that is not there or holds no vectors of this dimension, and no texts."""
    if not storage.exists(queries.place):
        raise UserError(f"{queries}: there is no such file")
    if not queries.place.filesystem.get_file_info(queries.place.path).is_file:
        raise UserError(f"{queries} is a folder, give a file")
    if queries.place.name.endswith(".npz"):
        raise UserError(_archive(queries))
    batches = _from_npy(queries, dimension) if queries.place.name.endswith(".npy") else _from_parquet(queries, encode)
    done = 0
    for vectors in batches:
        if vectors.shape[1] != dimension:
            raise UserError(
                f"{queries} holds vectors of {vectors.shape[1]} dimensions, the index is of {dimension} "
                "dimensions: make them with the model that made the index"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unusable = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(unusable):
            raise UserError(f"{queries}: query {done + unusable[0]} is a vector of zeros, NaN or infinity")
        yield vectors / lengths
        done += len(vectors)
    if not done:
        raise UserError(f"{queries} holds no queries")


def _archive(queries: QueryFile) -> str:
    return f"{queries} is a .npz archive of arrays; save the one with the vectors as .npy"


def _from_npy(queries: QueryFile, dimension: int) -> Iterator[NDArray[np.float32]]:
    if not queries.place.is_local:
        raise UserError(f"{queries}: give .npy files on a local disk, or Parquet")
    array = _open_npy(queries)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{queries} is an array of shape {array.shape} of {array.dtype}; vectors of {dimension} "
            f"dimensions are needed, floats of shape (number, {dimension}), also for one query"
        )
    for start in range(0, len(array), BATCH_QUERIES):
        yield np.array(array[start : start + BATCH_QUERIES], dtype=np.float32)


def _open_npy(queries: QueryFile) -> NDArray[Any]:
    """The array of a .npy file, mapped. What numpy says of others is advice to trust the file, so it is not passed on."""
    path = Path(queries.place.path)
    try:
        with path.open("rb") as stream:
            first = stream.read(6)
        if first.startswith(b"PK"):
            raise UserError(_archive(queries))
        if first != b"\x93NUMPY":
            raise UserError(f"{queries} is not a .npy file, whatever its name; make one with numpy.save")
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{queries} cannot be read: {error.strerror}") from None
    except (ValueError, EOFError, OverflowError, SyntaxError, TypeError) as error:
        if "Python objects" in str(error):
            raise UserError(
                f"{queries} is an array of Python objects, not of floats; convert it with astype('float32')"
            ) from None
        raise UserError(f"{queries} has a damaged header or was cut short; write it again with numpy.save") from None
    return array


def _from_parquet(queries: QueryFile, encode: Encode) -> Iterator[NDArray[np.float32]]:
    for column, values in _columns(queries):
        if values.null_count:
            raise UserError(f"{queries}: the column `{column}` has empty values; fill or remove them")
        yield encode(_texts(values, queries)) if column == "text" else _vectors(values, queries)


def _columns(queries: QueryFile) -> Iterator[tuple[str, pa.Array]]:
    """The name and values of the column of queries, batch by batch."""
    try:
        with queries.place.filesystem.open_input_file(queries.place.path) as stream:
            parquet = pq.ParquetFile(stream)
            names = parquet.schema_arrow.names
            column = next((name for name in ("embedding", "text") if name in names), None)
            if column is None:
                raise UserError(f"{queries} has no column `embedding` (vectors) or `text`; it has {', '.join(names)}")
            for batch in parquet.iter_batches(BATCH_QUERIES, columns=[column]):
                if batch.num_rows:
                    yield column, batch.column(0)
    except pa.ArrowInvalid:
        raise UserError(f"{queries} is neither .npy nor Parquet, or is damaged") from None
    except OSError as error:
        reason = error.strerror or "it is damaged, or was cut short"
        raise UserError(f"{queries} cannot be read: {reason}") from None


def _texts(values: pa.Array, queries: QueryFile) -> list[str]:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"{queries}: the column `text` is {values.type}, not texts")
    texts: list[str] = values.to_pylist()
    return texts


def _vectors(values: pa.Array, queries: QueryFile) -> NDArray[np.float32]:
    if not (
        pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type) or pa.types.is_large_list(values.type)
    ) or not (pa.types.is_floating(values.type.value_type) or pa.types.is_integer(values.type.value_type)):
        raise UserError(f"{queries}: the column `embedding` is {values.type}, not lists of numbers")
    flat = values.flatten()
    lengths = values.value_lengths() if not pa.types.is_fixed_size_list(values.type) else None
    if flat.null_count or (lengths is not None and len(lengths.unique()) > 1):
        raise UserError(f"{queries}: the vectors in `embedding` are of different lengths or have gaps")
    result: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), -1)
    return result
