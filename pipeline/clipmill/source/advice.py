"""What is told of the files in an input: which of them are read, which are not, and what to do about those."""

import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow.fs as fs

from clipmill.source.formats import SUFFIXES
from clipmill.source.lance_table import SUFFIX
from clipmill.source.names import ITEMS, MEDIA_SUFFIXES, PARQUET_SUFFIXES, is_table

_LOG = logging.getLogger("clipmill.source.inputs")
FOREIGN_PICTURES = (".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
"""What telephones and cameras write besides JPEG."""


def by_kind(found: list[fs.FileInfo]) -> list[tuple[str, list[fs.FileInfo]]]:
    """What can be read of these, by kind, in the order in which kinds are chosen."""
    ends: list[tuple[str, tuple[str, ...]]] = [
        ("Parquet files", PARQUET_SUFFIXES),
        ("Arrow files", (".arrow",)),
        ("tar archives", tuple(suffix for suffix in SUFFIXES if suffix != ".arrow")),
        *((f"{ITEMS[medium]}s", suffixes) for medium, suffixes in MEDIA_SUFFIXES.items()),
    ]
    return [(kind, [info for info in found if info.path.lower().endswith(ending)]) for kind, ending in ends]


def tell_unread(found: list[fs.FileInfo], chosen: list[fs.FileInfo], uri: str) -> None:
    """A notice where a folder holds something else that could be read, with what to type for it."""
    there = [(kind, files) for kind, files in by_kind(found) if files]
    lists = [info for info in found if is_table(info.path)]
    if len(found) == 1 or is_table(chosen[0].path):
        return
    read = next(kind for kind, files in there if files[0] in chosen)
    prefix = "s3://" if uri.startswith("s3://") else ""
    if foreign := [info for info in found if info.path.lower().endswith(FOREIGN_PICTURES)]:
        pictures = f"{len(foreign)} picture{'s' if len(foreign) > 1 else ''}"
        kinds = kinds_text(foreign, counts=False)
        _LOG.warning("%s: %s cannot be read (%s); %s", uri, pictures, kinds, _converted(foreign, prefix))
    for kind, files in there:
        if kind != read:
            _LOG.warning("%s: its %d %s are read, and its %d %s are not", uri, len(chosen), read, len(files), kind)
    if lists:
        first = min(prefix + info.path for info in lists)
        _LOG.warning(
            "%s: its %d %s are read, and the list %s is not; to read what it lists, name it: %s",
            uri,
            len(chosen),
            read,
            PurePosixPath(first).name,
            first,
        )


def what_to_do(found: list[fs.FileInfo], uri: str) -> str:
    """What to do about what lies in a folder, by the most frequent kind of file that something can be done about."""
    prefix = "s3://" if uri.startswith("s3://") else ""
    kinds = Counter(PurePosixPath(info.path).suffix.lower() for info in found)
    for suffix, _ in kinds.most_common():
        if suffix in FOREIGN_PICTURES:
            return _converted([info for info in found if info.path.lower().endswith(suffix)], prefix)
        first = min(info.path for info in found if PurePosixPath(info.path).suffix.lower() == suffix)
        if is_table(first):
            return f"name the list itself: {prefix}{first}"
        if suffix == SUFFIX:
            return f"name the table itself: {prefix}{first.split(SUFFIX)[0]}{SUFFIX}"
    return "`clipmill import` makes Parquet from COCO, Flickr8k and WebDataset"


def _converted(foreign: Sequence[fs.FileInfo], prefix: str) -> str:
    """What makes JPEGs of pictures of telephones and cameras, which no decoder here reads."""
    first = min(info.path for info in foreign)
    folder, _, name = first.rpartition("/")
    pattern = f"{shlex.quote(prefix + folder)}/*{PurePosixPath(name).suffix}"
    return f"make JPEGs first, with ImageMagick: mogrify -format jpg {pattern}"


def kinds_text(found: list[fs.FileInfo], *, counts: bool = True) -> str:
    """What lies there, by file extension, the most frequent first."""
    kinds = Counter(PurePosixPath(info.path).suffix or info.base_name for info in found)
    common = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    shown = ", ".join(f"{kinds[kind]} {kind}" if counts else kind for kind in common[:4])
    return shown + (", …" if len(common) > 4 else "")
