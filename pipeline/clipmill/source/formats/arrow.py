"""Arrow files, as ``save_to_disk`` of Hugging Face datasets writes them: a row group is a record batch.

A stream has no footer that says where its batches are. Each message begins with its length and that of its body, so a walk from
message to message reads some hundred bytes of each. The layout: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.source.formats.groups import Groups
from clipmill.source.input_file import InputFile
from clipmill.storage import Location

STATE = "state.json"
"""Beside the files of one dataset; it says which of them are the dataset, and in which order."""
_FILE_MAGIC = b"ARROW1\0\0"
_CONTINUES = b"\xff\xff\xff\xff"
_DICTIONARY, _RECORDS = 2, 3
_MOST_METADATA = 16 << 20
_MOST_BATCH_BYTES = 1 << 30
"""A batch is read whole."""


def describe(stream: pa.NativeFile, size: int) -> Groups:
    """The record batches of a stream, or of a file, which is a stream between a beginning and a footer of its own.

    Raises ValueError for what is neither, for a stream that was cut short, and for batches that are compressed or too large.
    """
    begin = _begin(stream)
    rows: list[int] = []
    starts: list[int] = []
    end = begin
    for at, kind, count, compressed, end in _messages(stream, begin, size):
        if kind == _DICTIONARY and rows:
            raise ValueError("dictionaries change between its batches; save it without dictionary columns")
        if kind != _RECORDS:
            continue
        if compressed:
            raise ValueError("its batches are compressed; save them uncompressed, or as Parquet")
        if end - at > _MOST_BATCH_BYTES:
            raise ValueError(f"a batch has {(end - at) / 1e9:.1f} GB; save it with smaller ones (writer_batch_size)")
        rows.append(count)
        starts.append(at)
    sizes = tuple(max(1, stop - start) for start, stop in pairwise([*starts, end]))
    stream.seek(begin)
    with pa.ipc.open_stream(_Joined(stream.read((starts[0] if starts else end) - begin), None)) as reader:
        return Groups(tuple(rows), sizes, tuple(starts), reader.schema)


def batches(stream: pa.NativeFile, file: InputFile, group: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Every batch from this one on, checked, since a file may be anybody's."""
    begin = _begin(stream)
    stream.seek(begin)
    head = stream.read(file.row_group_starts[0] - begin)
    stream.seek(file.row_group_starts[group])
    fields = [file.schema.get_field_index(name) for name in names]
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    with pa.ipc.open_stream(_Joined(head, stream), options=options) as reader:
        for batch in reader:
            batch.validate(full=True)
            yield batch.select(names)


def of_dataset(folder: Location, state: str) -> set[str]:
    """The names of the files that ``state.json`` of a folder lists. Raises UserError for one that cannot be read."""
    try:
        told = json.loads(storage.read_bytes(folder / state))
        return {str(one["filename"]) for one in told["_data_files"]}
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{folder / state} is no state of a saved dataset; save it again with save_to_disk") from None


def _begin(stream: pa.NativeFile) -> int:
    stream.seek(0)
    return len(_FILE_MAGIC) if stream.read(len(_FILE_MAGIC)) == _FILE_MAGIC else 0


def _messages(stream: pa.NativeFile, at: int, size: int) -> Iterable[tuple[int, int, int, bool, int]]:
    """(offset, kind, rows, whether it is compressed, offset of the next) of each message of a stream."""
    while at < size:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8 or head[:4] != _CONTINUES:
            if at == 0:
                raise ValueError("this is no Arrow file")
            raise ValueError(f"it was cut short, or is damaged, at byte {at}")
        (length,) = struct.unpack("<i", head[4:])
        if length == 0:
            return
        if not 0 < length <= _MOST_METADATA:
            raise ValueError(f"it is damaged at byte {at}")
        metadata = stream.read(length)
        try:
            kind, rows, compressed, body = _parse(metadata)
        except (struct.error, IndexError):
            raise ValueError(f"it was cut short, or is damaged, at byte {at}") from None
        following = at + 8 + length + body
        if not 0 <= rows <= body:  # a text, a list or a picture takes more than a byte a row
            raise ValueError(f"it is damaged at byte {at}")
        if following > size:
            raise ValueError(f"it was cut short at byte {at}: a batch there ends beyond the end of the file")
        yield at, kind, rows, compressed, following
        at = following


def _parse(metadata: bytes) -> tuple[int, int, bool, int]:
    """Kind, rows, compression and length of the body of a message: a flatbuffer, of which three numbers are read."""
    message = _Table(metadata, struct.unpack_from("<I", metadata, 0)[0])
    kind, body = message.number(1, "<B"), message.number(3, "<q")
    if kind != _RECORDS:
        return kind, 0, False, body
    records = message.table(2)
    return kind, records.number(0, "<q"), bool(records.position(3)), body


class _Table:
    """One table of a flatbuffer: where its fields are says the table of offsets that it points to."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._offsets = at - struct.unpack_from("<i", data, at)[0]
        if not 0 <= self._offsets < len(data):
            raise IndexError

    def position(self, field: int) -> int:
        """Where a field is; 0 where it is not there."""
        entry = 4 + 2 * field
        if entry >= struct.unpack_from("<H", self._data, self._offsets)[0]:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._offsets + entry)
        return self._at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        """A field that is a number; 0 where it is not there, as flatbuffers leave it out then."""
        at = self.position(field)
        return int(struct.unpack_from(form, self._data, at)[0]) if at else 0

    def table(self, field: int) -> _Table:
        """A field that is a table."""
        at = self.position(field)
        return _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])


class _Joined:
    """The beginning of a stream, and then the rest of a file from where it stands."""

    closed = False

    def __init__(self, head: bytes, rest: pa.NativeFile | None) -> None:
        self._head, self._rest = memoryview(head), rest

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none at the end."""
        found = bytes(self._head[:size] if size >= 0 else self._head)
        self._head = self._head[len(found) :]
        missing = size - len(found)
        return found + bytes(self._rest.read(missing)) if self._rest is not None and missing > 0 else found

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """The file belongs to whoever opened it."""
