"""WebDataset archives: a row is a sample, in the archive's order; a row group is a run of 64 of them.

One pass over the headers finds where samples begin. An archive that is compressed can only be read from its beginning: it is
one row group.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from clipmill.core.errors import UserError
from clipmill.source.formats.groups import Groups
from clipmill.source.importers.samples import column_name
from clipmill.source.input_file import InputFile
from clipmill.source.names import CAPTION_NAMES
from clipmill.source.tar_samples import (
    CLIPS,
    IMAGES,
    TEXTS,
    Parts,
    captions_of,
    document_of,
    kinds_to_types,
    members_of,
    open_archive,
    value_as,
)

_GROUP_SAMPLES = 64
_READ_AHEAD = 1 << 18
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_OWN = {
    "id": pa.string(),
    "image": _IMAGE,
    "audio": _IMAGE,
    "video": _IMAGE,
    "caption": pa.list_(pa.string()),
    "label": pa.string(),
}
_LABEL = "cls"
_RENAMED = "source_"


def describe(stream: pa.NativeFile, size: int) -> Groups:
    """Where samples begin, and which scalar fields their JSON has. Raises ValueError for what is no such archive."""
    packed = _is_packed(stream)
    rows: list[int] = []
    starts: list[int] = []
    kinds: dict[str, set[type]] = {}
    seen: set[str] = set()
    for at, key, parts, extensions in _samples(stream, 0, {"json"}):
        if not rows or (rows[-1] == _GROUP_SAMPLES and not packed):
            rows.append(0)
            starts.append(at)
        rows[-1] += 1
        seen |= extensions
        for name, value in _document(parts, key).items():
            if name.lower() in CAPTION_NAMES:
                seen.add(TEXTS[0])
            elif isinstance(value, bool | int | float | str):
                kinds.setdefault(name, set()).add(type(value))
    ends = [*starts[1:], size]
    sizes = tuple(max(1, end - start) for start, end in zip(starts, ends, strict=True))
    return Groups(tuple(rows), sizes, tuple(starts), _schema(seen, kinds_to_types(kinds)))


def _schema(seen: set[str], fields: dict[str, pa.DataType]) -> pa.Schema:
    """The columns that its members make, then the fields of the JSON, under other names where they would be taken for one."""
    clips = {name: bool(seen & extensions) for name, extensions in CLIPS.items()}
    images = {"image": bool(seen & IMAGES), **clips}
    own = {"id": True, **images, "caption": bool(seen & {*TEXTS}), "label": _LABEL in seen}
    columns = [pa.field(name, _OWN[name]) for name, there in own.items() if there]
    return pa.schema([*columns, *(pa.field(_column(name), kind) for name, kind in fields.items())])


def _column(name: str) -> str:
    return f"{_RENAMED}{name}" if name == "label" else column_name(name)


def batches(stream: pa.NativeFile, file: InputFile, group: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The samples from a row group on, at most 64 at a time; of members that no column needs not a byte is read."""
    schema = pa.schema([file.schema.field(name) for name in names])
    media = {"image": IMAGES, **CLIPS}
    files = {extension for name, extensions in media.items() if name in names for extension in extensions}
    wanted = {"json", _LABEL, *TEXTS, *files}
    held: list[dict[str, Any]] = []
    for _, key, parts, _ in _samples(stream, file.row_group_starts[group], wanted):
        held.append(_row(key, parts, schema))
        if len(held) == _GROUP_SAMPLES:
            yield pa.RecordBatch.from_pylist(held, schema)
            held = []
    if held:
        yield pa.RecordBatch.from_pylist(held, schema)


def _row(key: str, parts: Parts, schema: pa.Schema) -> dict[str, Any]:
    document = _document(parts, key)
    label = parts.get(_LABEL)
    own = {
        "id": key,
        "image": _file(parts, key, IMAGES),
        **{name: _file(parts, key, extensions) for name, extensions in CLIPS.items()},
        "caption": list(captions_of(parts, document)),
        "label": label.decode(errors="replace").strip() if label is not None else None,
    }
    fields = {_column(name): value for name, value in document.items()}
    return {
        field.name: own[field.name] if field.name in own else value_as(fields.get(field.name), field.type)
        for field in schema
    }


def _file(parts: Parts, key: str, extensions: Collection[str]) -> dict[str, Any] | None:
    """The first member of a sample that has one of these extensions."""
    kind = next((extension for extension in parts if extension in extensions), None)
    return {"bytes": parts[kind], "path": f"{key}.{kind}"} if kind else None


def _document(parts: Parts, key: str) -> dict[str, Any]:
    try:
        return document_of(parts, key, None)
    except UserError as error:
        raise ValueError(str(error)) from None


def _is_packed(stream: pa.NativeFile) -> bool:
    stream.seek(0)
    beginning: bytes = stream.read(3)
    return beginning.startswith((b"\x1f\x8b", b"BZh"))


def _samples(stream: pa.NativeFile, start: int, wanted: set[str]) -> Iterator[tuple[int, str, Parts, set[str]]]:
    """(offset, key, bytes of the wanted members by extension, extensions of all members) of every sample from ``start`` on.

    Raises ValueError where the archive is damaged.
    """
    packed = _is_packed(stream)
    stream.seek(start)
    source = stream if packed else io.BufferedReader(stream, _READ_AHEAD)
    began, key, parts, extensions = start, "", Parts(), set[str]()
    try:
        with open_archive(source, seekable=not packed) as archive:
            for member, member_key, extension, data in members_of(archive, wanted):
                if member_key != key and extensions:
                    yield began, key, parts, extensions
                    parts, extensions = {}, set()
                if not extensions:
                    began, key = member.offset, member_key
                extensions.add(extension)
                if data is not None:
                    parts[extension] = data
            if extensions:
                yield began, key, parts, extensions
    except (tarfile.TarError, EOFError, OSError, zlib.error, UserError) as error:
        raise ValueError(f"it is not a tar archive, or was cut short near {key or 'the beginning'} ({error})") from None
    finally:
        if not packed:
            source.detach()  # or it would close the file, which belongs to whoever opened it
