"""WebDataset: .tar shards in which neighbouring files of one name make up a sample (key.jpg, key.txt, key.json)."""

import tarfile
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.fs as fs

from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.importers.samples import (
    Collection,
    Sample,
    column_name,
    paths_below,
    refuse_outside,
)
from clipmill.source.names import CAPTION_NAMES
from clipmill.source.tar_samples import (
    IMAGES,
    TEXTS,
    Parts,
    captions_of,
    content_of,
    document_of,
    kinds_to_types,
    open_archive,
    refuse_size,
    value_as,
)
from clipmill.storage import Location

_LABEL = "cls"
_OWN = frozenset({"shard", _LABEL})
_READ = {*IMAGES, *TEXTS, _LABEL, "json"}
"""What is read of a sample; of anything else, such as vectors or films, not a byte."""


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


def _groups(shard: Location, *, only: str | None = None) -> Iterator[tuple[str, Parts]]:
    """(key, bytes by extension) of every sample; with ``only``, the bytes of no other extension are read."""
    key, parts = "", Parts()
    last = "the beginning"
    wanted = _READ if only is None else {only}
    try:
        with (
            shard.filesystem.open_input_stream(shard.path, compression=None) as stream,
            open_archive(stream) as archive,
        ):
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
                    refuse_size(member, sum(map(len, parts.values())), shard)
                if extension in wanted:
                    parts[extension] = content_of(archive, member)
                last = member.name
            if parts:
                yield key, parts
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{shard} is not a tar archive, or was cut short near {last} ({error}); replace it or leave it out"
        ) from None


def _json_columns(shard: Location) -> dict[str, pa.DataType]:
    """The scalar fields of the first shard's JSON, whole numbers widened to fractions and those to text as needed."""
    kinds: dict[str, set[type]] = {}
    for key, parts in _groups(shard, only="json"):
        for name, value in document_of(parts, key, shard).items():
            if isinstance(value, bool | int | float | str):
                kinds.setdefault(name, set()).add(type(value))
    return {name: kind for name, kind in kinds_to_types(kinds).items() if name.lower() not in CAPTION_NAMES | _OWN}


def _samples(shard: Location, fields: dict[str, pa.DataType]) -> Iterator[Sample]:
    for key, parts in _groups(shard):
        document = document_of(parts, key, shard)
        kind = next((extension for extension in parts if extension in IMAGES), None)
        label = parts.get(_LABEL)
        yield Sample(
            id=key,
            path=f"{key}.{kind}" if kind else f"{shard.name}/{key}",
            image=parts[kind] if kind else None,
            captions=captions_of(parts, document),
            values=(
                shard.name,
                label.decode(errors="replace").strip() if label is not None else None,
                *(value_as(document.get(name), kind) for name, kind in fields.items()),
            ),
        )
