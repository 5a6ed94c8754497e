"""Columns of a source file as a unit has them: of one type each, whatever they are in the file."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from clipmill.core.errors import UserError
from clipmill.source.input_file import InputFile
from clipmill.source.types import plain_type, valid_text

_MOST_DIGITS = 76
"""Of Arrow's widest decimal numbers."""


def kept_values(column: pa.Array, name: str, kind: pa.DataType, file: InputFile, start: int) -> pa.Array:
    """A column in the type that it has over all files. Raises UserError where that would change a value."""
    column = plain_array(column)
    try:
        if pt.is_integer(column.type) and pt.is_decimal(
            kind
        ):  # straight, Arrow refuses by the type and not by the value
            column = column.cast(pa.decimal256(_MOST_DIGITS, kind.scale))
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{file.path}: column {name!r} near row {start} has a value that the type {kind} cannot hold, which the files "
            f"have together ({str(error).splitlines()[0].rstrip('.')}); make the types of the files agree, or leave the "
            "column out with --keep-columns"
        ) from None


def media_values(column: pa.Array | None, rows: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Bytes, paths, and whether there is such a column at all."""
    data, path = image_values(column)
    return (
        data if data is not None else pa.nulls(rows, pa.large_binary()),
        path if path is not None else pa.nulls(rows, pa.string()),
        pa.array(np.full(rows, column is not None)),
    )


def image_values(column: pa.Array | None) -> tuple[pa.Array | None, pa.Array | None]:
    """Bytes and path of a column of images, sounds or videos of any kind; None for what it has not."""
    if column is None or pt.is_null(column.type):
        return None, None
    column = _storage(column)
    if pt.is_struct(column.type):
        names = [column.type.field(at).name for at in range(column.type.num_fields)]
        parts = dict(zip(names, column.flatten(), strict=True))
        bytes_, path = parts.get("bytes"), parts.get("path")
        return (
            None if bytes_ is None else bytes_.cast(pa.large_binary()),
            None if path is None else plain_array(path).cast(pa.string()),
        )
    plain = plain_array(column)
    return (None, plain) if pt.is_string(plain.type) else (plain.cast(pa.large_binary()), None)


def id_values(column: pa.Array | None, file: InputFile, numbers: np.ndarray) -> pa.Array:
    """Ids as text: those of the column, and of file and row where there is none."""
    if column is not None:
        column = _id_text(plain_array(column), file, int(numbers[0]) if len(numbers) else 0)
        if not column.null_count:
            return column
    name = file.path.rsplit("/", 1)[-1]
    derived = pa.array([f"{name}:{number}" for number in numbers], pa.string())
    return derived if column is None else pc.coalesce(column, derived)


def _id_text(column: pa.Array, file: InputFile, start: int) -> pa.Array:
    """Ids as text; whole numbers that a missing value turned into fractions are whole again. Raises UserError for others."""
    if not pt.is_floating(column.type):
        return column.cast(pa.string())
    try:
        whole = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column).cast(pa.int64())
    except pa.ArrowInvalid:
        raise UserError(
            f"{file.path}: the id column has a fraction near row {start}, and ids are whole numbers or strings; choose "
            "another with --id-column, or write the ids as strings"
        ) from None
    return whole.cast(pa.string())


def caption_values(column: pa.Array | None, rows: int) -> pa.Array:
    """A list of captions for each row, null without any."""
    kind = pa.list_(pa.string())
    if column is None or pt.is_null(column.type):
        return pa.nulls(rows, kind)
    column = plain_array(column)
    if pt.is_string(column.type):
        return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), column)
    if pt.is_list_view(column.type) or pt.is_large_list_view(column.type):
        column = _in_order(column)
    if pt.is_dictionary(column.type.value_type):
        column = column.cast(pa.list_(column.type.value_type.value_type))
    return valid_text(column.cast(kind))


def _in_order(views: pa.Array) -> pa.Array:
    """A list-view array, whose lists lie in any order and may overlap, as a list array. (Arrow's own cast makes arrays that
    are not valid where a list is null.)"""
    lengths = pc.fill_null(pc.list_value_length(views), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    at = np.repeat(views.offsets.to_numpy().astype(np.int64) - offsets[:-1], lengths) + np.arange(offsets[-1])
    values = plain_array(views.values).take(pa.array(at))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values, mask=views.is_null())


def plain_array(column: pa.Array) -> pa.Array:
    """A column without dictionary, extension type or view; strings are valid UTF-8."""
    column = _storage(column)
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(plain_type(column.type))
    return valid_text(column) if pt.is_string(column.type) else column


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column
