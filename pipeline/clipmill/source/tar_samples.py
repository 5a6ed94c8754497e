"""Samples in tar archives: neighbouring files of one name (key.jpg, key.txt, key.json), as WebDataset has them."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pyarrow as pa

from clipmill.core.errors import UserError
from clipmill.source.image_files import MAX_FILE_BYTES
from clipmill.source.names import AUDIO_SUFFIXES, CAPTION_NAMES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, medium_of
from clipmill.storage import Location

IMAGES = frozenset(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
CLIPS = {
    "audio": frozenset(suffix.lstrip(".") for suffix in AUDIO_SUFFIXES),
    "video": frozenset(suffix.lstrip(".") for suffix in VIDEO_SUFFIXES),
}
"""Sounds and videos of samples, by the column that they become."""
TEXTS = ("txt", "text", "caption")
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
Parts = dict[str, bytes]
"""Bytes of the members of one sample by their extensions."""


def open_archive(stream: Any, *, seekable: bool = False) -> tarfile.TarFile:
    """An archive, read from where the stream stands to its end. Not by its name, which may be another's, but by its first
    bytes. ``seekable``: what is not read is passed over."""
    if seekable:
        return cast(tarfile.TarFile, cast(Any, tarfile.open)(fileobj=stream, mode="r:", tarinfo=_Member))
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


def members_of(archive: tarfile.TarFile, wanted: set[str]) -> Iterator[tuple[tarfile.TarInfo, str, str, bytes | None]]:
    """(member, key, extension, bytes) of every file of a sample; of what is not ``wanted`` not a byte is read.

    Raises UserError for a member that is larger than such are.
    """
    key, before = "", 0
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # else it remembers them all
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        if not member.isfile() or not stem or not extension:
            continue
        member_key, extension = f"{folder}/{stem}" if folder else stem, extension.lower()
        key, before = member_key, before if member_key == key else 0
        data = None
        if extension in wanted:
            refuse_size(member, before)
            data = content_of(archive, member)
            before += len(data)
        yield member, key, extension, data


def refuse_size(member: tarfile.TarInfo, before: int, shard: Location | None = None) -> None:
    """Raises UserError for a part of a sample, of which ``before`` bytes are read, that is larger than such parts are."""
    most = (MAX_FILE_BYTES if medium_of(member.name) else _TEXT_BYTES) - before
    if member.size > most:
        told = f"{shard}: " if shard else ""
        raise UserError(
            f"{told}{member.name} has {member.size:,} bytes, more than a picture or its text; leave it out of the archive"
        )


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member. Raises tarfile.ReadError where the archive ends before them."""
    content = archive.extractfile(member)
    assert content is not None
    data = content.read()
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def kinds_to_types(kinds: Mapping[str, set[type]]) -> dict[str, pa.DataType]:
    """The types of fields whose values are of these: whole numbers widened to fractions and those to text as needed."""
    types: dict[str, pa.DataType] = {}
    for name, seen in kinds.items():
        if seen == {bool}:
            types[name] = pa.bool_()
        elif seen == {int}:
            types[name] = pa.int64()
        else:
            types[name] = pa.float64() if seen <= {int, float} else pa.string()
    return types


def document_of(parts: Parts, key: str, shard: Location | None) -> dict[str, Any]:
    """The JSON object of a sample; empty where it has none. Raises UserError for what is no JSON."""
    if "json" not in parts:
        return {}
    told = f"{shard}: " if shard else ""
    try:
        document = json.loads(parts["json"])
    except RecursionError:
        raise UserError(f"{told}{key}.json is nested too deeply to be read; leave it out") from None
    except ValueError as error:
        raise UserError(f"{told}{key}.json is not valid JSON ({error})") from None
    return document if isinstance(document, dict) else {}


def captions_of(parts: Parts, document: dict[str, Any]) -> tuple[str | None, ...]:
    """The text file of a sample, else a caption field of its JSON."""
    text = next((parts[extension] for extension in TEXTS if extension in parts), None)
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


def value_as(value: Any, kind: pa.DataType) -> Any:
    """A value of JSON in a column of this type: as text where that is asked for, null where it does not fit."""
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
