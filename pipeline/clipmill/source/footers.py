"""What the footers of the input say, kept between starts: a run that continues reads no footer twice.

Opening a file costs two or three requests on S3. An input of half a million files is listed in seconds and read in many
minutes, so a listing that shows the same path, size and modification time is taken for the same file. While many are read,
pieces of what they say are kept, which become one file when the run that reads them has begun:

    footers.arrow              of all files
    footers.TOKEN.arrow        of some thousands that were read since
"""

import re
import secrets
from collections.abc import Mapping, Sequence

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import StorageRefused
from clipmill.source.input_file import InputFile
from clipmill.storage import Location

LEAST_FILES = 16
_AT_ONCE = 8192
"""Lines that are turned into objects at a time."""
_GROUPS = ("row_group_rows", "row_group_bytes", "row_group_starts")
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("modified", pa.int64()),
        ("rows", pa.int64()),
        ("row_group_rows", pa.list_(pa.int64())),
        ("row_group_bytes", pa.list_(pa.int64())),
        ("row_group_starts", pa.list_(pa.int64())),
        ("schema", pa.dictionary(pa.int32(), pa.binary())),
    ]
)


def save_footers(location: Location, files: Sequence[InputFile]) -> None:
    """Writes what is known of the files; of few nothing, since they are as quickly opened again."""
    if len(files) < LEAST_FILES:
        return
    storage.write_bytes(location, _packed(files))
    for piece in _pieces(location):
        storage.remove_file(piece)


def save_piece(location: Location, files: Sequence[InputFile]) -> None:
    """Keeps what the footers of some files said, beside what is kept of others, until all is saved."""
    storage.write_bytes(location.sibling(f"{_stem(location)}.{secrets.token_hex(8)}.arrow"), _packed(files))


def read_footers(location: Location) -> Mapping[str, InputFile]:
    """What was saved, by path; nothing where nothing, or something else, is there."""
    known: dict[str, InputFile] = {}
    for place in (location, *_pieces(location)):
        known.update(_unpacked(place))
    return known


def _pieces(location: Location) -> list[Location]:
    try:
        beside = storage.list_files(location.sibling(""), recursive=False)
    except StorageRefused:  # what is written there says why, and where
        return []
    piece = re.compile(rf"{re.escape(_stem(location))}\.[0-9a-f]{{16}}\.arrow")
    return [location.sibling(info.base_name) for info in beside if piece.fullmatch(info.base_name)]


def _stem(location: Location) -> str:
    return location.name.removesuffix(".arrow")


def _packed(files: Sequence[InputFile]) -> bytes:
    schemas = list(dict.fromkeys(file.schema for file in files))
    number = {schema: at for at, schema in enumerate(schemas)}
    coded = pa.DictionaryArray.from_arrays(
        pa.array([number[file.schema] for file in files], pa.int32()),
        pa.array([schema.serialize().to_pybytes() for schema in schemas], pa.binary()),
    )
    plain = [[getattr(file, name) for file in files] for name in _SCHEMA.names[:-1]]
    columns = [pa.array(values, field.type) for values, field in zip(plain, _SCHEMA, strict=False)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(pa.table([*columns, coded], schema=_SCHEMA))
    return bytes(sink.getvalue().to_pybytes())


def _unpacked(location: Location) -> dict[str, InputFile]:
    try:
        table = pa.ipc.open_file(pa.py_buffer(storage.read_bytes(location))).read_all()
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    if table.schema != _SCHEMA:
        return {}
    coded = table.column("schema").combine_chunks()
    schemas = [pa.ipc.read_schema(pa.py_buffer(data)) for data in coded.dictionary.to_pylist()]
    known: dict[str, InputFile] = {}
    same: dict[tuple[int, ...], tuple[int, ...]] = {}
    plain, numbers = table.drop_columns(["schema"]), coded.indices.to_numpy()
    for start in range(0, len(table), _AT_ONCE):
        for at, line in enumerate(plain.slice(start, _AT_ONCE).to_pylist(), start):
            rows, sizes, starts = (tuple(line.pop(name)) for name in _GROUPS)
            known[line["path"]] = InputFile(
                ordinal=0,
                **line,
                row_group_rows=same.setdefault(rows, rows),  # files of one writer: in memory once
                row_group_bytes=sizes,
                row_group_starts=starts,
                schema=schemas[numbers[at]],
            )
    return known
