"""What is at a place: files and folders, their bytes, versions and listings."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from clipmill.storage import local_files
from clipmill.storage.location import Location
from clipmill.storage.written import named

_HASH_CHUNK = 8 << 20


def exists(location: Location) -> bool:
    """Whether a file or folder is there."""
    result: bool = location.filesystem.get_file_info(location.path).type != fs.FileType.NotFound
    return result


def begins_any(location: Location) -> bool:
    """Whether the path of anything that is there begins like this: on S3 one request, however many names are meant."""
    if not location.is_local:
        from clipmill.storage.s3.filesystem import is_prefix

        return is_prefix(location.path)
    folder, name = os.path.split(location.path)
    try:
        return any(other.startswith(name) for other in os.listdir(folder or "."))
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_file(location: Location) -> bool:
    """Whether a file is there; on S3 this takes one request, and asking for folders too takes two."""
    if location.is_local:
        return os.path.isfile(location.path)
    from clipmill.storage.s3.requests import head

    return head(location.path) is not None


def bucket_is_absent(name: str) -> bool:
    """Whether there is certainly no S3 bucket of this name; one that may not be asked about counts as there."""
    from clipmill.storage.s3 import requests

    return requests.bucket_is_absent(name)


def read_bytes(location: Location) -> bytes:
    """The whole of a small file. Raises FileNotFoundError when there is no such file."""
    if not location.is_local:
        return read_versioned(location).data
    if not location.filesystem.get_file_info(location.path).is_file:
        raise FileNotFoundError(location.path)
    with location.filesystem.open_input_file(location.path) as stream:
        result: bytes = stream.read()
        return result


def read_range(location: Location, start: int, length: int) -> bytes:
    """So many bytes of a file from ``start`` on; fewer where it ends before. Raises FileNotFoundError when there is no such
    file."""
    with location.filesystem.open_input_file(location.path) as stream:
        result: bytes = stream.read_at(length, start)
        return result


@dataclass(frozen=True)
class Versioned:
    """A small file: its bytes, the version they are, and how old they are in seconds.

    On S3 both times are the store's own. On a disk the file's is that of the machine that holds it (a file server), and
    now is by this machine's clock: where the two differ, so does the age.
    """

    data: bytes
    version: str
    age: float


def read_versioned(location: Location) -> Versioned:
    """A small file and which version of it that is, for `write_if`. Raises FileNotFoundError when it is not there."""
    if location.is_local:
        return Versioned(*local_files.get(location.path))
    from clipmill.storage.s3.transfer import get

    return Versioned(*get(location.path))


def write_if(location: Location, data: bytes, version: str | None) -> str | None:
    """Writes a small file only where ``version`` is what is there (None: nothing is there).

    Returns its new version, or None when another was there, which then stays. Of several writers with the same version
    one succeeds. Data that is there already counts as written by this call.
    """
    if location.is_local:
        with named(location.uri):
            return local_files.put_if(location.path, data, version)
    from clipmill.storage.s3.transfer import put_if

    return put_if(location.path, data, version)


@dataclass(frozen=True)
class Opened:
    """A file open for reading anywhere; ``etag`` is its ETag on S3 and its modification time in ns on a local disk."""

    stream: pa.NativeFile
    size: int
    etag: str


@contextmanager
def open_versioned(location: Location) -> Iterator[Opened]:
    """Opens a file and says which version of it was opened, in one request on S3.

    What is read is that version and no other. Raises FileNotFoundError when it is not there.
    """
    if location.is_local:
        with location.filesystem.open_input_file(location.path) as stream:
            yield Opened(stream, stream.size(), etag(location))
        return
    from clipmill.storage.s3.reading import ObjectFile

    file = ObjectFile(location.path)
    with pa.PythonFile(file, mode="r") as stream:
        yield Opened(stream, file.size, file.version)


def etag(location: Location) -> str:
    """The version of a file: its ETag on S3, its modification time in nanoseconds on a local disk."""
    if location.is_local:
        return str(location.filesystem.get_file_info(location.path).mtime_ns)
    from clipmill.storage.s3.requests import head, version_of

    found = head(location.path)
    if found is None:
        raise FileNotFoundError(location.uri)
    return version_of(found)


def list_files(location: Location, *, recursive: bool = True) -> list[fs.FileInfo]:
    """Files below a folder in byte order of their paths; none when the folder is absent or is a file."""
    selector = fs.FileSelector(location.path, recursive=recursive, allow_not_found=True)
    try:
        found = location.filesystem.get_file_info(selector)
    except NotADirectoryError:
        return []
    files = [info for info in found if info.type == fs.FileType.File]
    return sorted(files, key=lambda info: info.path.encode())


def read_table(location: Location) -> pa.Table:
    """A small Parquet file in memory."""
    with location.filesystem.open_input_file(location.path) as stream:
        return pq.ParquetFile(stream).read()  # `pq.read_table` imports pandas, for half a second


def sha256(location: Location) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with location.filesystem.open_input_stream(location.path) as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
