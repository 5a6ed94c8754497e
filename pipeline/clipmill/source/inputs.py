"""The source files an input URI stands for, each with its identity and its row groups."""

import fnmatch
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import MAX_FILES, ORDINAL_SHIFT
from clipmill.datasets.manifests import MANIFEST
from clipmill.source.advice import by_kind, kinds_text, tell_unread, what_to_do
from clipmill.source.footers import read_footers, save_piece
from clipmill.source.formats import Format, arrow, format_of
from clipmill.source.input_file import InputFile
from clipmill.source.lance_table import is_lance, lance_fragments
from clipmill.source.listed import listed_folder
from clipmill.source.listed_tables import listed_table
from clipmill.source.locating import locate as locate
from clipmill.source.names import ITEMS, PARQUET_SUFFIXES, is_table, medium_of
from clipmill.source.written import files_listed, refuse_half_published
from clipmill.storage import Location

_WILDCARDS = "*?["
_THREADS_HERE, _THREADS_ON_S3 = 16, 256
"""That read footers: on S3 each waits for two or three answers a file."""
_A_PIECE = 8192
"""Files of which what was read is kept together: less is lost to a kill, or to a file that is damaged."""
_LOG = logging.getLogger(__name__)
_REMEDY = "replace the file or leave it out"


def find_inputs(uri: str, footers: Location | None = None, *, keep: bool = True) -> list[InputFile]:
    """The source files of a file, folder, glob or prefix, in byte order of their paths, numbered from 0: its Parquet files;
    where there is none, its Arrow files; else its tar archives; else its pictures, sounds or videos as one listed folder; or
    a CSV or JSONL file that is named. A notice tells of files that could have been read too.

    ``footers`` is where what is known of files is kept: one whose size and time of change are as then is not opened again.
    Of many that are opened, it is kept there as they are read, unless ``keep`` is false.

    In a folder, names that begin with ``_`` or ``.`` are passed over. Raises UserError when nothing is there, when
    there is nothing to embed, when a file is damaged, or when there are more than row numbers have room for.
    """
    place, found = _matching(uri)
    if is_lance(place, uri):
        return _numbered(lance_fragments(place), uri)
    infos = _usable(found, uri)
    tell_unread(found, infos, uri)
    if is_table(infos[0].path):
        return [listed_table(place)]
    if (medium := medium_of(infos[0].path)) is not None:
        return [listed_folder(place, found, medium)]
    _refuse_too_many(len(infos), uri)
    infos.sort(key=lambda info: info.path.encode())
    return _numbered(_described_all(infos, "s3://" if uri.startswith("s3://") else "", footers, keep=keep), uri)


def _described_all(
    infos: Sequence[fs.FileInfo], prefix: str, footers: Location | None, *, keep: bool
) -> list[InputFile]:
    """What is known of each file or read of it, numbered in this order."""
    known = read_footers(footers) if footers is not None else {}
    files: list[InputFile | None] = []
    for ordinal, info in enumerate(infos):
        before = known.get(prefix + info.path)
        same = before is not None and (before.size, before.modified) == (info.size, info.mtime_ns or 0)
        files.append(replace(before, ordinal=ordinal) if before is not None and same else None)
    unread = [ordinal for ordinal, file in enumerate(files) if file is None]

    def read(ordinal: int) -> InputFile:
        path, modified = prefix + infos[ordinal].path, infos[ordinal].mtime_ns or 0
        kind = format_of(path)
        made = _read_footer(ordinal, path) if kind is None else _described(ordinal, path, kind)
        return replace(made, modified=modified)

    with ThreadPoolExecutor(_THREADS_ON_S3 if prefix else _THREADS_HERE) as pool:
        for start in range(0, len(unread), _A_PIECE):
            piece = list(pool.map(read, unread[start : start + _A_PIECE]))
            for file in piece:
                files[file.ordinal] = file
            if keep and footers is not None and len(unread) > _A_PIECE:
                save_piece(footers, piece)
                _LOG.info("read the footers of %s of %s files", f"{start + len(piece):,}", f"{len(unread):,}")
    return [file for file in files if file is not None]


def _numbered(files: list[InputFile], uri: str) -> list[InputFile]:
    """The files, if there is a row in them and they are not too many. Raises UserError."""
    _refuse_too_many(len(files), uri)
    if not any(file.rows for file in files):
        raise UserError(f"{uri}: there is not one row in the files found ({len(files)})")
    return _with_shared_schemas(files)


def _refuse_too_many(count: int, uri: str) -> None:
    if count > MAX_FILES:
        raise UserError(
            f"{uri}: {count} files are more than the {MAX_FILES} that one dataset can hold; merge them "
            "into larger files (a few hundred megabytes each), or embed parts of the input into several datasets"
        )


def refuse_unreachable(uri: str) -> str | None:
    """Raises UserError when nothing that can be embedded is where a URI points. Lists, and opens nothing.

    Returns the medium (image, audio, video) of a folder whose files are rows themselves; None for any other input.
    """
    place, found = _matching(uri)
    return None if is_lance(place, uri) else medium_of(_usable(found, uri)[0].path)


def _matching(uri: str) -> tuple[Location, list[fs.FileInfo]]:
    """The file or folder that a URI names, and the files that it stands for."""
    fixed, pattern = _split_wildcards(uri)
    place = _open(fixed)
    if pattern is None:
        if storage.is_file(place):
            return place, [place.filesystem.get_file_info(place.path)]
        found = storage.list_input(place)
        if found or (place.is_local and storage.exists(place)):
            if not any(info.path == (place / MANIFEST).path for info in found):
                refuse_half_published(place)
            return place, _saved(_believed(found, place), place)
        parent, _, start = place.path.rpartition("/")
        folder = Location(place.filesystem, parent, uri)
        found = _named_like(folder, start) if parent and start else []
        if not found:
            raise UserError(f"{uri}: there is no such file or folder, and no file whose name begins like that")
        return folder, found
    if place.filesystem.get_file_info(place.path).is_file:
        raise UserError(f"{uri}: {place} is a file, so there is nothing below it; name the file itself, or a folder")
    found = storage.list_input(place, recursive="/" in pattern, wanted=lambda path: _matches(path, pattern))
    if not found:
        raise UserError(f"{uri}: no file matches this pattern")
    return place, found


def _named_like(folder: Location, start: str) -> list[fs.FileInfo]:
    """The files right in a folder whose names begin like that."""
    return storage.list_input(folder, recursive=False, wanted=lambda name: name.startswith(start))


def _split_wildcards(uri: str) -> tuple[str, str | None]:
    """The leading folders without wildcards, and the rest as a pattern; no pattern when there are no wildcards."""
    parts = uri.split("/")
    first = next((at for at, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS)), None)
    if first is None or (not uri.startswith("s3://") and storage.exists(storage.resolve(uri))):
        return uri, None
    return "/".join(parts[:first]) or ("/" if uri.startswith("/") else "."), "/".join(parts[first:])


def _open(uri: str) -> Location:
    if uri.startswith("s3://") and uri.strip("/") != "s3:":
        return locate(uri.rstrip("/"))
    return storage.resolve(uri)


def _matches(path: str, pattern: str) -> bool:
    """Shell rules: ``*`` stays within one folder, ``**`` stands for any number of folders."""
    return _parts_match(path.split("/"), pattern.split("/"))


def _parts_match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_parts_match(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _parts_match(parts[1:], patterns[1:])


def _believed(found: list[fs.FileInfo], place: Location) -> list[fs.FileInfo]:
    """The files without those that a manifest of ours beside them does not list. Raises as `files_listed` does."""
    for manifest in [info for info in found if info.base_name == MANIFEST]:
        folder = manifest.path.rpartition("/")[0]
        listed = files_listed(Location(place.filesystem, folder, place.uri + folder[len(place.path) :]))
        if listed is not None:
            there = {f"{folder}/{name}" for name in listed}
            found = [info for info in found if info.path in there or not info.path.startswith(f"{folder}/")]
    return found


def _saved(found: list[fs.FileInfo], place: Location) -> list[fs.FileInfo]:
    """The files without those Arrow files that a ``state.json`` beside them does not list, such as caches. Raises UserError
    for one that cannot be read."""
    for state in [info for info in found if info.base_name == arrow.STATE]:
        folder = state.path.rpartition("/")[0]
        listed = arrow.of_dataset(
            Location(place.filesystem, folder, place.uri + folder[len(place.path) :]), arrow.STATE
        )
        there = {f"{folder}/{name}" for name in listed}
        found = [
            info
            for info in found
            if info.path in there or info.path.rpartition("/")[0] != folder or not info.path.endswith(".arrow")
        ]
    return found


def _usable(found: list[fs.FileInfo], uri: str) -> list[fs.FileInfo]:
    """The Parquet files among these; where there is none those of the next kind; a file that is named outright, which is taken
    for Parquet unless its name says otherwise. Raises UserError where there is nothing that can be embedded."""
    if not found:
        raise UserError(
            f"{uri}: the folder is empty, or holds only names that begin with _ or a point; clipmill reads Parquet files "
            f"({', '.join(PARQUET_SUFFIXES)}), Arrow files, tar archives, pictures, sounds, videos, and CSV or JSONL if named"
        )
    if len(found) == 1 and _is_named(uri, found[0]):
        if (medium := medium_of(found[0].path)) is not None:
            raise UserError(
                f"{uri} is one {ITEMS[medium]}; give the folder that it is in, or search with it: "
                f"`clipmill search --{medium} {uri}`"
            )
        return found
    chosen = next((of_kind for _, of_kind in by_kind(found) if of_kind), [])
    if not chosen:
        raise UserError(
            f"{uri}: there is neither a Parquet file nor an Arrow file, a tar archive, a picture, a sound or a video among the "
            f"{len(found)} files here ({kinds_text(found)}); {what_to_do(found, uri)}"
        )
    return chosen


def _is_named(uri: str, info: fs.FileInfo) -> bool:
    return uri.rstrip("/").endswith(f"/{info.base_name}") or uri == info.base_name


def _described(ordinal: int, path: str, kind: Format) -> InputFile:
    """A source file that is no Parquet."""
    with _opened(path) as opened:
        try:
            found = kind.describe(opened.stream, opened.size)
        except (ValueError, pa.ArrowException) as error:
            raise UserError(f"{path}: {str(error).splitlines()[0].rstrip('.')}; {_REMEDY}") from None
    return InputFile(
        ordinal=ordinal,
        path=path,
        size=opened.size,
        etag=opened.etag,
        rows=sum(found.rows),
        row_group_rows=found.rows,
        row_group_bytes=found.sizes,
        row_group_starts=found.starts,
        schema=found.schema.remove_metadata(),
    )


@contextmanager
def _opened(path: str) -> Iterator[storage.Opened]:
    """An open source file. Raises UserError where it is gone or may not be read, RunFailed where the storage fails."""
    place = locate(path)
    try:
        with storage.open_versioned(place) as opened:
            yield opened
    except FileNotFoundError:
        raise UserError(f"{path}: the file disappeared while the input was being read") from None
    except PermissionError:
        raise UserError(f"{path}: there is no permission to read this file") from None
    except OSError as error:
        if place.is_local:
            raise UserError(f"{path}: {_damage(1, str(error))}; {_REMEDY}") from None
        raise RunFailed(f"{path}: could not be read: {error}; run the command again") from None


def _read_footer(ordinal: int, path: str) -> InputFile:
    with _opened(path) as opened:
        size, etag = opened.size, opened.etag
        try:
            footer = pq.ParquetFile(opened.stream)
            metadata, schema = footer.metadata, footer.schema_arrow
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(f"{path}: {_damage(size, str(error))}; {_REMEDY}") from None
    if metadata.num_rows >= 1 << ORDINAL_SHIFT:
        raise UserError(f"{path}: {metadata.num_rows} rows are more than one file may hold (2³²); split the file")
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    return InputFile(
        ordinal=ordinal,
        path=path,
        size=size,
        etag=etag,
        rows=metadata.num_rows,
        row_group_rows=tuple(group.num_rows for group in groups),
        row_group_bytes=tuple(group.total_byte_size for group in groups),
        schema=schema.remove_metadata(),
    )


def etag_of(place: Location, stream: pa.NativeFile) -> str:
    """The version of an open file: its ETag on S3, its modification time in nanoseconds on a local disk."""
    return storage.etag(place)


def _damage(size: int, error: str) -> str:
    if size == 0:
        return "the file has no bytes"
    if "magic bytes" in error or "too small" in error or "smaller than" in error:
        return "this is not a Parquet file, or one that was cut short (its footer is missing)"
    return f"the footer of this Parquet file cannot be read ({error.splitlines()[0].rstrip('.')})"


def _with_shared_schemas(files: list[InputFile]) -> list[InputFile]:
    """Equal schemas become one object, so that many files take little memory and travel as one."""
    seen: dict[pa.Schema, pa.Schema] = {}
    for file in files:
        object.__setattr__(file, "schema", seen.setdefault(file.schema, file.schema))
    return files
