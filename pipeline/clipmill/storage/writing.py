"""Writes that are whole or not there at all, and deletion."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from clipmill.core.errors import RunFailed
from clipmill.storage import local_files
from clipmill.storage.location import STAGING, Location
from clipmill.storage.reading import is_file
from clipmill.storage.written import HashingStream, Written, named

_IN_MEMORY = 8 << 20


def make_folder(location: Location) -> None:
    """The folder and its parents, where the storage has folders. Raises RunFailed where none can be made."""
    if location.is_local:
        try:
            os.makedirs(location.path, exist_ok=True)
        except OSError as error:
            raise RunFailed(f"{location}: the folder cannot be made: {error.strerror}; choose another place") from None


def remove(location: Location) -> None:
    """A file or a whole folder; nothing when it is absent. With a staging folder go the unfinished uploads to it.

    Raises RunFailed, naming the place, where something of it cannot be deleted.
    """
    if not location.is_local:
        _remove_from_s3(location)
        return
    info = location.filesystem.get_file_info(location.path)
    if info.type == fs.FileType.Directory:
        local_files.remove_folder(location.path)
    elif os.path.lexists(location.path):
        remove_file(location)


def remove_file(location: Location) -> None:
    """A file, on S3 by one request; nothing when it is absent. Raises as `remove` does."""
    if location.is_local:
        with local_files.deleting(location.path):
            os.unlink(location.path)
    else:
        location.filesystem.delete_file(location.path)


def remove_files(folder: Location, names: Sequence[str]) -> None:
    """Files below a folder, on S3 a thousand a request; nothing where one is absent."""
    if folder.is_local:
        for name in names:
            remove(folder / name)
        return
    from clipmill.storage.s3.filesystem import delete_objects
    from clipmill.storage.s3.requests import split

    bucket, prefix = split(folder.path)
    delete_objects(bucket, [f"{prefix}/{name}" for name in names])


def _remove_from_s3(location: Location) -> None:
    from clipmill.storage.s3.filesystem import delete_below
    from clipmill.storage.s3.transfer import abort_uploads

    if location.name.endswith(STAGING):
        abort_uploads(location.path)
    if not delete_below(location.path) and is_file(location):
        location.filesystem.delete_file(location.path)


@contextmanager
def atomic_writer(location: Location) -> Iterator[HashingStream]:
    """A stream to a file that appears whole under its name, or not at all; ``written`` of it describes the file after.

    On S3 the file is made in memory, or on the local disk where it is large, and uploaded when it is whole. What the
    caller raises passes through; raises RunFailed or UserError, naming the place, when the storage does not take it.
    """
    if location.is_local:
        make_folder(location.sibling(""))
        with local_files.writer(location.path) as stream:
            yield stream
        return
    from clipmill.storage.s3.transfer import upload

    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="clipmill-") as file:
        yield HashingStream(file, location.uri)
        with named(location.uri):
            upload(file, location.path)


def write_bytes(location: Location, data: bytes) -> Written:
    """A small file, whole or not at all."""
    with atomic_writer(location) as stream:
        stream.write(data)
    return stream.written


def write_table(location: Location, table: pa.Table, **options: object) -> Written:
    """A Parquet file, whole or not at all; options go to the Parquet writer."""
    with atomic_writer(location) as stream:
        pq.write_table(table, stream, **options)
    return stream.written
