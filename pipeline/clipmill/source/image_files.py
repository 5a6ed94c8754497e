"""Images, sounds and videos that the input names by path: where they are, and their bytes."""

import os
import posixpath
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.fs as fs

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import Reason
from clipmill.source.confinement import real_place, refusal
from clipmill.source.diagnosis import BEGINNING_BYTES, Rejected, refuse_no_image
from clipmill.source.locating import locate
from clipmill.source.media import IMAGE, Medium
from clipmill.source.names import ITEMS
from clipmill.storage import Location

__all__ = ["ImageFile", "Rejected", "find_image", "load_image_bytes"]

MAX_FILE_BYTES = IMAGE.most_bytes
_ASK_AGAIN_SECONDS = 60
"""Asking for a bucket that is not there takes seconds, and a table can name it in every row."""
_unreachable: dict[str, tuple[float, str]] = {}


def load_image_bytes(path: str, base: Location, allowed: Sequence[str] = ()) -> bytes:
    """The bytes of an image file: a path or URI, absolute or relative to the folder of ``base``, the file that names it.

    ``allowed`` are folders and s3:// prefixes that images may lie in besides that folder. Raises Rejected when the file or
    its bucket is not there, lies elsewhere or cannot be a picture, RunFailed when a bucket that is there does not give it.
    """
    return find_image(path, base, allowed).read()


@dataclass(frozen=True)
class ImageFile:
    """A file that may be read and has a size that a picture can have, in bytes."""

    path: str
    place: Location
    size: int

    def read(self) -> bytes:
        """Its bytes. Raises Rejected when they do not begin as those of an image; then only the first were read."""
        with told(self.path, self.place.is_local), self.place.filesystem.open_input_file(self.place.path) as stream:
            beginning: bytes = stream.read(BEGINNING_BYTES)
            refuse_no_image(beginning)
            return beginning + bytes(stream.read(MAX_FILE_BYTES - len(beginning)))


def find_image(path: str, base: Location, allowed: Sequence[str] = (), medium: Medium = IMAGE) -> ImageFile:
    """Where an image file is, or one of another medium. Raises as `load_image_bytes` does."""
    if path.startswith(("http://", "https://")):
        raise Rejected(medium.not_found, f"{path} is a web address, and clipmill does not download")
    if not path.strip():
        raise Rejected(medium.missing, "the path is empty")
    if "\0" in path:
        raise Rejected(medium.not_found, "the path holds a zero byte")
    with told(path, place_is_local(path, base), medium):
        place = _place(path, base, medium)
        refused = refusal(path, place, base, allowed)
        if refused is not None:
            raise Rejected(Reason.OUTSIDE_OF_INPUT, refused)
        place = real_place(_reachable(place, base, medium))
        info = place.filesystem.get_file_info(place.path)
    if info.type == fs.FileType.NotFound:
        raise Rejected(medium.not_found, f"{place}: no such file")
    if info.type == fs.FileType.Directory:
        raise Rejected(medium.not_found, f"{place} is a folder, not a file")
    if info.type != fs.FileType.File:
        raise Rejected(medium.not_found, f"{place} is not a regular file")
    if info.size > (MAX_FILE_BYTES if medium is IMAGE else medium.most_bytes):
        raise Rejected(medium.not_one, f"{place} has {info.size} bytes, more than any {ITEMS[medium.name]}")
    if not info.size:
        raise Rejected(medium.empty, f"{place} has no bytes")
    return ImageFile(path, place, info.size)


@contextmanager
def told(path: str, local: bool, medium: Medium = IMAGE) -> Iterator[None]:
    """In the block a failure of a file is its reject; one of a network ends the run, since the next start may succeed."""
    try:
        yield
    except (OSError, ValueError) as error:
        if local or isinstance(error, ValueError):
            raise Rejected(medium.unreadable, f"{path}: {str(error).splitlines()[0]}") from None
        raise RunFailed(f"{path}: the {medium.noun} could not be fetched: {error}; run the command again") from None


def place_is_local(path: str, base: Location) -> bool:
    """Whether the path leads to a disk: then a failure is that file's own, and not a network's."""
    return path.startswith(("/", "file://")) or ("://" not in path and base.is_local)


def _place(path: str, base: Location, medium: Medium) -> Location:
    """Where a path leads; nothing is asked of the storage. Dots in it are resolved, in names of objects too."""
    if path.startswith("s3://"):
        inside = path.removeprefix("s3://")
        if {".", ".."} & set(inside.split("/")):
            inside = posixpath.normpath(inside)
        if inside.startswith(("/", "..")) or not inside:
            raise Rejected(medium.not_found, f"{path} names no bucket; write s3://bucket/name")
        return Location(storage.resolve("s3://any").filesystem, inside, f"s3://{inside}")
    if "://" in path and not path.startswith("file://"):
        raise Rejected(medium.not_found, f"{path}: storage of this kind is not supported")
    if path.startswith(("/", "file://", "~")):
        return locate(os.path.expanduser(path))
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(base.path), path))
    return Location(base.filesystem, inside, inside if base.is_local else f"s3://{inside}")


def _reachable(place: Location, base: Location, medium: Medium) -> Location:
    """The same place where its bucket is known to be there. Raises Rejected where it cannot be opened."""
    if place.is_local:
        return place
    bucket = place.path.split("/", 1)[0]
    if not base.is_local and bucket == base.path.split("/", 1)[0]:
        return Location(base.filesystem, place.path, place.uri)
    asked, problem = _unreachable.get(bucket, (-float(_ASK_AGAIN_SECONDS), ""))
    if time.monotonic() - asked >= _ASK_AGAIN_SECONDS:
        try:
            return locate(place.uri)
        except UserError as error:
            problem = str(error).splitlines()[0]
            _unreachable[bucket] = (time.monotonic(), problem)
    raise Rejected(medium.not_found, f"{place}: the bucket cannot be opened ({problem})")
