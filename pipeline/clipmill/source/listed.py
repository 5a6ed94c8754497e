"""A folder of pictures as a source file, read in place: a row is a picture, in byte order of its path.

The rows are in memory, the pictures are opened where they are decoded. A folder changes picture by picture, so each has its
size and version in the listing, and what has changed is told by these (`clipmill.versions.changes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.fs as fs

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import LISTING
from clipmill.source.input_file import InputFile
from clipmill.source.names import medium_of
from clipmill.storage import Location

FOLDER = "/*"
"""What the path of a listed folder ends with: its pictures are below the folder that this lies in."""
_PATHS = {"image": "path", "audio": "audio", "video": "video"}
_GROUP_ROWS = 64
_ROW_BYTES = 100_000
"""Of a picture whose size is not known, for the cutting of units."""


def is_folder(path: str) -> bool:
    """Whether a source file of this path is a listed folder."""
    return path.endswith(FOLDER)


def listed_folder(place: Location, infos: Sequence[fs.FileInfo], medium: str = "image") -> InputFile:
    """The pictures among the files below a folder as one source file: columns id and path (relative to the folder),
    caption where text files lie beside pictures, label (the first folder inside) where there are folders. Of a folder of sounds
    or videos the same, and the column of paths is called ``audio`` or ``video``."""
    start = len(place.path.rstrip("/")) + 1
    found = sorted(infos, key=lambda info: info.path.encode())
    pictures = [info for info in found if medium_of(info.path) == medium]
    paths = [info.path[start:] for info in pictures]
    columns: dict[str, pa.Array] = {"id": pa.array(paths, pa.string()), _PATHS[medium]: pa.array(paths, pa.string())}
    texts = {info.path[start:]: info for info in found if info.path.lower().endswith(".txt")}
    etags = [str(info.mtime_ns or 0) for info in pictures]
    if texts:
        captions, versions = _captions(place, paths, texts)
        columns["caption"] = captions
        etags = [f"{etag}{version}" for etag, version in zip(etags, versions, strict=True)]
    if any("/" in path for path in paths):
        columns["label"] = pa.array([path.split("/")[0] if "/" in path else None for path in paths], pa.string())
    listing = pa.table([np.arange(len(paths)), paths, [info.size for info in pictures], etags], schema=LISTING)
    uri = place.uri.rstrip("/") + FOLDER if not place.is_local else place.path.rstrip("/") + FOLDER
    return of_listing(uri, pa.table(columns), listing)


def of_listing(path: str, rows: pa.Table, listing: pa.Table, ordinal: int = 0) -> InputFile:
    """A listed folder of these ``rows``; ``listing`` has the path, size and version of each picture."""
    digest = hashlib.sha256()
    for name in LISTING.names[1:]:
        for value in listing.column(name).to_pylist():
            digest.update(f"{value}\0".encode())
    sizes = listing.column("size").to_pylist()
    made = in_memory(path, rows, size=sum(sizes), etag=digest.hexdigest()[:32], sizes=sizes)
    return replace(made, ordinal=ordinal, listing=listing)


def in_memory(path: str, rows: pa.Table, *, size: int, etag: str, sizes: Sequence[int] | None = None) -> InputFile:
    """A source file whose rows are these, in small groups. ``sizes`` are those of the pictures, in bytes, where known."""
    starts = range(0, rows.num_rows, _GROUP_ROWS)
    known = [_ROW_BYTES] * rows.num_rows if sizes is None else list(sizes)
    return InputFile(
        ordinal=0,
        path=path,
        size=size,
        etag=etag,
        rows=rows.num_rows,
        row_group_rows=tuple(min(_GROUP_ROWS, rows.num_rows - start) for start in starts),
        row_group_bytes=tuple(max(1, sum(known[start : start + _GROUP_ROWS])) for start in starts),
        schema=rows.schema.remove_metadata(),
        listed=rows.combine_chunks(),
    )


def _captions(place: Location, paths: Sequence[str], texts: dict[str, fs.FileInfo]) -> tuple[pa.Array, list[str]]:
    """The lines of the text file beside each picture, null without one, and its version."""
    captions: list[list[str] | None] = []
    versions = []
    for path in paths:
        info = texts.get(f"{path.rsplit('.', 1)[0]}.txt")
        if info is None:
            captions.append(None)
            versions.append("")
            continue
        name = info.path[len(place.path.rstrip("/")) + 1 :]
        try:
            data = storage.read_bytes(place / name)
        except FileNotFoundError:
            raise UserError(
                f"{place / name} disappeared while the folder was being listed; run the command again"
            ) from None
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
        captions.append([line.strip() for line in lines if line.strip()])
        versions.append(f"+{info.size}+{info.mtime_ns or 0}")
    return pa.array(captions, pa.list_(pa.string())), versions


def part_of(file: InputFile, start: int, stop: int) -> InputFile:
    """The same file with only the row groups in memory that hold rows ``start`` to ``stop`` − 1, for a task that reads no
    others."""
    if file.listed is None:
        return file
    ends = list(accumulate(file.row_group_rows))
    first = next((end - rows for end, rows in zip(ends, file.row_group_rows, strict=True) if end > start), 0)
    last = next((end for end in ends if end >= stop), file.rows)
    rows = file.listed.slice(first - file.listed_from, last - first)
    return replace(file, listed=rows, listed_from=first, listing=None)
