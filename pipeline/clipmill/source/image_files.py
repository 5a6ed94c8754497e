"""Images that the input names by path: where they are, and their bytes. And what becomes of an image that is no good."""

import os
import posixpath
import time

import pyarrow.fs as fs

from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import Reason
from clipmill.source.inputs import locate
from clipmill.storage import Location

MAX_FILE_BYTES = 1 << 30
"""Far more than any picture: a path that leads to an archive or a disk image is not read into memory."""
_ASK_AGAIN_SECONDS = 60
"""Asking for a bucket that is not there takes seconds, and a table can name it in every row."""
_unreachable: dict[str, tuple[float, str]] = {}


class Rejected(Exception):
    """An image that cannot be embedded: why, and what was seen. Ends as one row of the rejects."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def load_image_bytes(path: str, base: Location) -> bytes:
    """The bytes of an image file: a path or URI, absolute or relative to the folder of ``base``, the file that names it.

    Raises Rejected when the file or its bucket is not there or it cannot be a picture, RunFailed when a bucket that is
    there does not give the file.
    """
    if path.startswith(("http://", "https://")):
        raise Rejected(Reason.IMAGE_NOT_FOUND, f"{path} is a web address, and clipmill does not download")
    if not path.strip():
        raise Rejected(Reason.MISSING_IMAGE, "the path is empty")
    if "\0" in path:
        raise Rejected(Reason.IMAGE_NOT_FOUND, "the path holds a zero byte")
    try:
        place = _place(path, base)
        info = place.filesystem.get_file_info(place.path)
        if info.type == fs.FileType.NotFound:
            raise Rejected(Reason.IMAGE_NOT_FOUND, f"{place}: no such file")
        if info.type == fs.FileType.Directory:
            raise Rejected(Reason.IMAGE_NOT_FOUND, f"{place} is a folder, not a file")
        if info.type != fs.FileType.File:
            raise Rejected(Reason.IMAGE_NOT_FOUND, f"{place} is not a regular file")
        if info.size > MAX_FILE_BYTES:
            raise Rejected(Reason.NOT_AN_IMAGE, f"{place} has {info.size} bytes, more than any picture")
        with place.filesystem.open_input_file(place.path) as stream:
            result: bytes = stream.read()
            return result
    except (OSError, ValueError) as error:
        if place_is_local(path, base) or isinstance(error, ValueError):
            raise Rejected(Reason.UNREADABLE_IMAGE, f"{path}: {str(error).splitlines()[0]}") from None
        raise RunFailed(f"{path}: the image could not be fetched: {error}; run the command again") from None


def place_is_local(path: str, base: Location) -> bool:
    """Whether the path leads to a disk: then a failure is that file's own, and not a network's."""
    return path.startswith(("/", "file://")) or ("://" not in path and base.is_local)


def _place(path: str, base: Location) -> Location:
    if path.startswith("s3://"):
        return _object(path)
    if "://" in path and not path.startswith("file://"):
        raise Rejected(Reason.IMAGE_NOT_FOUND, f"{path}: storage of this kind is not supported")
    if path.startswith(("/", "file://", "~")):
        return locate(os.path.expanduser(path))
    folder = posixpath.dirname(base.path)
    inside = posixpath.normpath(posixpath.join(folder, path))
    if not base.is_local and inside.split("/", 1)[0] != base.path.split("/", 1)[0]:
        raise Rejected(Reason.IMAGE_NOT_FOUND, f"{path} leads out of the bucket of {base}")
    return Location(base.filesystem, inside, inside if base.is_local else f"s3://{inside}")


def _object(path: str) -> Location:
    bucket = path.removeprefix("s3://").split("/", 1)[0]
    asked, problem = _unreachable.get(bucket, (-float(_ASK_AGAIN_SECONDS), ""))
    if time.monotonic() - asked >= _ASK_AGAIN_SECONDS:
        try:
            return locate(path)
        except UserError as error:
            problem = str(error).splitlines()[0]
            _unreachable[bucket] = (time.monotonic(), problem)
    raise Rejected(Reason.IMAGE_NOT_FOUND, f"{path}: the bucket cannot be opened ({problem})")
