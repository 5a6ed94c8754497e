"""What an Arrow type can be used for: a picture, a caption, an id, a column that travels."""

import pyarrow as pa
import pyarrow.types as pt


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries, extensions and views, and with one kind of string."""
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    return kind


def valid_text(column: pa.Array) -> pa.Array:
    """A string array, or a list array of strings, whose text is UTF-8: U+FFFD takes the place of bytes that are not.

    Parquet files may hold any bytes in a string column, and most of what reads them later raises on such a value.
    """
    try:
        column.validate(full=True)
        return column
    except pa.ArrowInvalid:
        pass
    if pt.is_string(column.type):
        values = column.cast(pa.binary()).to_pylist()
        return pa.array([_decoded(value) for value in values], pa.string())
    lists = column.cast(pa.list_(pa.binary())).to_pylist()
    return pa.array([each and [_decoded(value) for value in each] for each in lists], pa.list_(pa.string()))


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def is_bytes(kind: pa.DataType) -> bool:
    """Whether this can hold encoded images: binary, or a struct with bytes or a path."""
    return is_binary(kind) or is_picture(kind) or (pt.is_struct(kind) and _fields(kind).get("path") == pa.string())


def is_picture(kind: pa.DataType) -> bool:
    """Whether this is the struct<bytes, path> of Hugging Face datasets."""
    return pt.is_struct(kind) and is_binary(_fields(kind).get("bytes", pa.null()))


def _fields(kind: pa.StructType) -> dict[str, pa.DataType]:
    return {kind.field(at).name: plain_type(kind.field(at).type) for at in range(kind.num_fields)}


def is_caption(kind: pa.DataType) -> bool:
    """Whether this is a string or a list of strings."""
    return pt.is_string(kind) or is_text_list(kind)


def is_text_list(kind: pa.DataType) -> bool:
    """Whether this is a list of strings, or a list of nulls."""
    tests = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    is_list = any(test(kind) for test in tests)
    result: bool = is_list and (pt.is_string(plain_type(kind.value_type)) or pt.is_null(kind.value_type))
    return result


def is_id(kind: pa.DataType) -> bool:
    """Whether this is a string or a number; of fractions only those can be ids that are whole, which reading makes sure."""
    result: bool = pt.is_string(kind) or pt.is_integer(kind) or pt.is_floating(kind)
    return result


def is_scalar(kind: pa.DataType) -> bool:
    """Whether this is a number, string, boolean, date or time."""
    return not (pt.is_nested(kind) or is_binary(kind) or pt.is_fixed_size_binary(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether this is a string of bytes of any length."""
    result: bool = pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind)
    return result
