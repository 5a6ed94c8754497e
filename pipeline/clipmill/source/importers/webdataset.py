"""WebDataset: .tar shards in which neighbouring files of one name make up a sample (key.jpg, key.txt, key.json)."""

import json
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.fs as fs

from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.image_files import MAX_FILE_BYTES
from clipmill.source.importers.samples import (
    Collection,
    Sample,
    column_name,
    paths_below,
    refuse_outside,
)
from clipmill.source.names import CAPTION_NAMES, IMAGE_SUFFIXES
from clipmill.storage import Location

_IMAGES = frozenset(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
_TEXTS = ("txt", "text", "caption")
_LABEL = "cls"
_OWN = frozenset({"shard", _LABEL})
_READ = {*_IMAGES, *_TEXTS, _LABEL, "json"}
"""What is read of a sample; of anything else, such as vectors or films, not a byte."""
_TEXT_BYTES = 16 << 20
"""Far more than a caption or a record of a sample."""
_PACKINGS, _MAGIC_BYTES = {b"\x1f\x8b": "r|gz", b"BZh": "r|bz2"}, 3
"""Not xz, whose archives say themselves how much memory is taken to unpack them."""
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_HEADER_BYTES = 1 << 20
_Parts = dict[str, bytes]


def read_webdataset(source: Location, settings: ImportSettings) -> Collection:
    """Every sample of one shard, or of the shards of a folder in byte order of their paths, streamed.

    The caption is the .txt file, else a caption field of the .json file. Scalar fields of the JSON in the first shard
    become columns; a later value of another type than there becomes text, or null in a column of numbers.
    """
    shards = _shards(source, settings)
    fields = _json_columns(shards[0])
    return Collection(
        columns=(
            pa.field("shard", pa.string()),
            pa.field(_LABEL, pa.string()),
            *(pa.field(column_name(name), kind) for name, kind in fields.items()),
        ),
        samples=(sample for shard in shards for sample in _samples(shard, fields)),
        total=None,
    )


def _shards(source: Location, settings: ImportSettings) -> list[Location]:
    info = source.filesystem.get_file_info(source.path)
    if info.type == fs.FileType.File:
        return [source]
    shards = [source / path for path in paths_below(source) if path.endswith((".tar", ".tar.gz", ".tgz"))]
    if not shards:
        raise UserError(f"{source}: there is no .tar shard here")
    return [refuse_outside(shard, source, settings) for shard in shards]


def _groups(shard: Location, *, only: str | None = None) -> Iterator[tuple[str, _Parts]]:
    """(key, bytes by extension) of every sample; with ``only``, the bytes of no other extension are read."""
    key, parts = "", _Parts()
    last = "the beginning"
    wanted = _READ if only is None else {only}
    try:
        with shard.filesystem.open_input_stream(shard.path, compression=None) as stream, _opened(stream) as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # else it remembers them all
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if not member.isfile() or not stem or not extension:
                    continue
                member_key = f"{folder}/{stem}" if folder else stem
                if member_key != key and parts:
                    yield key, parts
                    parts = {}
                key, extension = member_key, extension.lower()
                if extension in _READ:
                    _refuse_size(member, shard, sum(map(len, parts.values())))
                if extension in wanted:
                    parts[extension] = _content(archive, member)
                last = member.name
            if parts:
                yield key, parts
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{shard} is not a tar archive, or was cut short near {last} ({error}); replace it or leave it out"
        ) from None


def _opened(stream: pa.NativeFile) -> tarfile.TarFile:
    """The archive, read from its beginning to its end. Not by its name, which may be another's, but by its first bytes."""
    beginning = stream.read(_MAGIC_BYTES)
    packing = next((kind for magic, kind in _PACKINGS.items() if beginning.startswith(magic)), "r|")
    opened: tarfile.TarFile = cast(Any, tarfile.open)(fileobj=_From(beginning, stream), mode=packing, tarinfo=_Member)
    return opened


class _From:
    """What was read of a stream already, and then the rest."""

    def __init__(self, beginning: bytes, stream: pa.NativeFile) -> None:
        self._beginning, self._stream = beginning, stream

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        found, self._beginning = self._beginning[:size], self._beginning[size:]
        return found or bytes(self._stream.read(size))


class _Member(tarfile.TarInfo):
    """A member whose headers take no more memory than names need; what they describe may be any size."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found

    def _refuse_holes(self, *_: object) -> None:
        raise tarfile.ReadError("a file with holes")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_holes


def _refuse_size(member: tarfile.TarInfo, shard: Location, before: int) -> None:
    """Raises UserError for a part of a sample, of which ``before`` bytes are read, that is larger than such parts are."""
    most = (MAX_FILE_BYTES if member.name.lower().endswith(IMAGE_SUFFIXES) else _TEXT_BYTES) - before
    if member.size > most:
        raise UserError(
            f"{shard}: {member.name} has {member.size:,} bytes, more than a picture or its text; leave it out of the archive"
        )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None
    data = content.read()
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _json_columns(shard: Location) -> dict[str, pa.DataType]:
    """The scalar fields of the first shard's JSON, whole numbers widened to fractions and those to text as needed."""
    kinds: dict[str, set[type]] = {}
    for key, parts in _groups(shard, only="json"):
        for name, value in _document(parts, key, shard).items():
            if isinstance(value, bool | int | float | str):
                kinds.setdefault(name, set()).add(type(value))
    types = {}
    for name, seen in kinds.items():
        if seen == {bool}:
            types[name] = pa.bool_()
        elif seen == {int}:
            types[name] = pa.int64()
        else:
            types[name] = pa.float64() if seen <= {int, float} else pa.string()
    return {name: kind for name, kind in types.items() if name.lower() not in CAPTION_NAMES | _OWN}


def _document(parts: _Parts, key: str, shard: Location) -> dict[str, Any]:
    if "json" not in parts:
        return {}
    try:
        document = json.loads(parts["json"])
    except RecursionError:
        raise UserError(f"{shard}: {key}.json is nested too deeply to be read; leave it out") from None
    except ValueError as error:
        raise UserError(f"{shard}: {key}.json is not valid JSON ({error})") from None
    return document if isinstance(document, dict) else {}


def _samples(shard: Location, fields: dict[str, pa.DataType]) -> Iterator[Sample]:
    for key, parts in _groups(shard):
        document = _document(parts, key, shard)
        kind = next((extension for extension in parts if extension in _IMAGES), None)
        label = parts.get(_LABEL)
        yield Sample(
            id=key,
            path=f"{key}.{kind}" if kind else f"{shard.name}/{key}",
            image=parts[kind] if kind else None,
            captions=_captions(parts, document),
            values=(
                shard.name,
                label.decode(errors="replace").strip() if label is not None else None,
                *(_value(document.get(name), kind) for name, kind in fields.items()),
            ),
        )


def _captions(parts: _Parts, document: dict[str, Any]) -> tuple[str | None, ...]:
    text = next((parts[extension] for extension in _TEXTS if extension in parts), None)
    if text is not None:
        return (text.decode("utf-8-sig", errors="replace").strip(),)
    for name, value in document.items():
        if name.lower() in CAPTION_NAMES:
            return (
                tuple(value)
                if isinstance(value, list) and all(isinstance(v, str) for v in value)
                else ((value,) if isinstance(value, str) else ())
            )
    return ()


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None or (kind == pa.string() and isinstance(value, str)):
        return value
    if kind == pa.string():
        return json.dumps(value)
    fits = {pa.bool_(): bool, pa.int64(): int, pa.float64(): int | float}[kind]
    if not isinstance(value, fits) or (kind != pa.bool_() and isinstance(value, bool)):
        return None
    if kind == pa.int64() and not -(2**63) <= value < 2**63:
        return None
    return float(value) if kind == pa.float64() else value
