"""Vectors and columns of a unit, as arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_EXPONENT = np.uint16(0x7C00)


def finite(vectors: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Which rows of float16 (n, d) have no NaN and no infinity, whose exponents are all ones."""
    return np.asarray(((vectors.view(np.uint16) & _EXPONENT) != _EXPONENT).all(axis=1))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, which `combine_chunks` would copy even where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def placed(
    vectors: NDArray[np.float32], present: NDArray[np.bool_], dimension: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Vectors of the rows that have an item as float16 (n, d) by row, zeros where there is none, and which rows have one
    that is finite."""
    by_row = np.zeros((len(present), dimension), np.float16)
    by_row[present] = vectors.astype(np.float16)
    good = finite(by_row)
    by_row[~good] = 0
    return by_row, present & good
