"""A column of the dataset as slices: each image in exactly one of a few groups."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.datasets.manifests import Embeddings

MOST_VALUES = 50
"""Of more values than this in a column, the most frequent are slices and the others together are one."""
MOST_NUMBERS = 20
"""More numbers or times than this in a column are cut into bins of about equally many images."""
BINS = 5
SliceKind = Literal["value", "range", "other", "null"]


@dataclass(frozen=True)
class SliceName:
    """What one slice holds. ``text`` is the value, or the least and greatest of a range; a null or NaN has kind null."""

    kind: SliceKind
    text: str


@dataclass(frozen=True)
class Slicing:
    """``numbers`` (images,) int64 index ``names``, in the order of the images part."""

    column: str
    names: tuple[SliceName, ...]
    numbers: NDArray[np.int64]


def check_columns(embeddings: Embeddings, columns: tuple[str, ...]) -> None:
    """Raises UserError, naming the columns there are, where one is asked for that the dataset did not keep."""
    kept = embeddings.manifest.kept_columns
    for column in columns:
        if column not in kept:
            there = f"it has {', '.join(kept)}" if kept else "it kept no column of its source"
            raise UserError(
                f"--slice-by {column}: {embeddings.location} has no such column; {there}. Columns are kept by "
                "`clipmill embed --keep-columns`"
            )


def read_slicing(embeddings: Embeddings, column: str) -> Slicing:
    """The slices of one kept column. Raises UserError for a column that does not hold one value per image."""
    return slice_values(
        column, pa.chunked_array([_plain(batch.column(0), column) for batch in _batches(embeddings, column)])
    )


def _batches(embeddings: Embeddings, column: str) -> list[pa.RecordBatch]:
    return list(embeddings.batches("images", [column]))


def _plain(values: pa.Array, column: str) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if _is_number(values.type) or pa.types.is_temporal(values.type):
        return values
    if pa.types.is_decimal(values.type):
        return values.cast(pa.float64())
    try:
        return values.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"--slice-by {column}: it holds {values.type}, which is not one value per image; choose a column of text, "
            "numbers, times or booleans"
        ) from None


def _is_number(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or pa.types.is_floating(of))


def slice_values(column: str, values: pa.ChunkedArray) -> Slicing:
    """Slices of text, numbers or times (images,): values in rising order, then the rest, then null."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    encoded = values.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    distinct = encoded.dictionary
    code = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    continuous = not pa.types.is_large_string(distinct.type) and len(distinct) > MOST_NUMBERS
    names, group = _ranges(distinct, code) if continuous else _most_frequent(distinct, code)
    if (code < 0).any():
        names = [*names, SliceName("null", "")]
    group = np.append(group, len(names) - 1)  # of code −1
    return Slicing(column, tuple(names), group[code])


def _ranges(distinct: pa.Array, code: NDArray[np.int64]) -> tuple[list[SliceName], NDArray[np.int64]]:
    """Bins by quantile, and the bin of each distinct value."""
    rising = pc.array_sort_indices(distinct).to_numpy()
    place = np.empty(len(distinct), np.int64)
    place[rising] = np.arange(len(distinct))
    images_up_to = np.cumsum(np.bincount(code[code >= 0], minlength=len(distinct))[rising])
    middle = images_up_to - np.diff(images_up_to, prepend=0) / 2
    bin_of = np.unique((middle * BINS / images_up_to[-1]).astype(np.int64), return_inverse=True)[1]
    first = np.flatnonzero(np.diff(bin_of, prepend=-1))
    last = np.append(first[1:], len(distinct)) - 1
    names = [
        SliceName("range", f"{_text(distinct[rising[low]])} … {_text(distinct[rising[high]])}")
        for low, high in zip(first.tolist(), last.tolist(), strict=True)
    ]
    return names, bin_of[place]


def _most_frequent(distinct: pa.Array, code: NDArray[np.int64]) -> tuple[list[SliceName], NDArray[np.int64]]:
    """The most frequent values in rising order, then the others together, and the slice of each distinct value."""
    counts = np.bincount(code[code >= 0], minlength=len(distinct))
    kept = np.arange(len(distinct))
    if len(distinct) > MOST_VALUES:
        kept = np.argsort(-counts, kind="stable")[: MOST_VALUES - 1]
    rising = kept[pc.array_sort_indices(distinct.take(pa.array(kept))).to_numpy()]
    names = [SliceName("value", _text(distinct[at])) for at in rising.tolist()]
    group = np.full(len(distinct), len(names), np.int64)
    group[rising] = np.arange(len(rising))
    if len(kept) < len(distinct):
        names.append(SliceName("other", f"{len(distinct) - len(kept):,} other values"))
    return names, group


def _text(value: pa.Scalar) -> str:
    if pa.types.is_floating(value.type):
        return f"{value.as_py():.6g}"
    return str(value)
