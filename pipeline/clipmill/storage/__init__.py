"""A URI in, a filesystem out (local, S3), and writes that publish everything or nothing."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from clipmill.core.errors import RunFailed, UserError
from clipmill.storage import local_files
from clipmill.storage.written import HashingStream, Written, named

_HASH_CHUNK = 8 << 20
_IN_MEMORY = 8 << 20
_READ_THREADS = 16
_QUERY = re.compile(r"\?[\w.-]+=")


@dataclass(frozen=True)
class Location:
    """One place: the filesystem it is on, its path there, and the URI the user knows it by."""

    filesystem: fs.FileSystem
    path: str
    uri: str

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.uri.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def sibling(self, name: str) -> "Location":
        """The place called ``name`` in the folder that holds this one."""
        path, uri = self.path.rstrip("/"), self.uri.rstrip("/")
        parent, _, _ = path.rpartition("/")
        uri_parent, _, _ = uri.rpartition("/")
        return Location(self.filesystem, f"{parent}/{name}", f"{uri_parent}/{name}")

    def __str__(self) -> str:
        return self.uri


def resolve(uri: str | Path) -> Location:
    """The location a user means: ``s3://bucket/key``, ``file://`` or a local path (made absolute).

    Nothing is asked of the storage yet. Raises UserError for a scheme that is not known and a URI that holds credentials
    or settings, which belong into the environment.
    """
    text = str(uri)
    if not text.strip():
        raise UserError("an empty path was given where a file or folder is needed")
    scheme = text.split("://", 1)[0] if "://" in text else ""
    if scheme in ("", "file"):
        path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
        return Location(fs.LocalFileSystem(), path, path)
    if scheme != "s3":
        raise UserError(
            f"{_without_secrets(text)}: storage of kind {scheme}:// is not supported; use a local path or "
            "s3://bucket/prefix"
        )
    path = text.removeprefix("s3://").rstrip("/")
    bucket, _, _ = path.partition("/")
    if "@" in bucket or _QUERY.search(path):
        raise UserError(
            f"{_without_secrets(text)}: credentials and settings are not taken from a URI; set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and AWS_REGION instead, and write s3://bucket/prefix"
        )
    if not bucket:
        raise UserError(f"{text} names no bucket; write s3://bucket/prefix")
    if "//" in path:
        raise UserError(f"{text}: there is an empty name between two slashes; write s3://bucket/prefix")
    return Location(_s3_filesystem(), path, f"s3://{path}")


def _without_secrets(uri: str) -> str:
    """A URI without what stands before an @ or after a question mark, where credentials may be."""
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    path = path.partition("?")[0]
    return f"{scheme}://{authority.rpartition('@')[2].partition('?')[0]}{slash}{path}"


@lru_cache(maxsize=1)
def _s3_filesystem() -> fs.FileSystem:
    """Imported when it is first needed: a worker of a local run has no use for boto3."""
    from clipmill.storage.s3.filesystem import S3Handler

    return fs.PyFileSystem(S3Handler())


def exists(location: Location) -> bool:
    """Whether a file or folder is there."""
    return location.filesystem.get_file_info(location.path).type != fs.FileType.NotFound


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
        return stream.read()


def read_many(locations: Iterable[Location]) -> list[bytes]:
    """Many small files, read in parallel, in the order given. Raises FileNotFoundError when one is not there."""
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        return list(pool.map(read_bytes, locations))


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


def make_folder(location: Location) -> None:
    """The folder and its parents, where the storage has folders. Raises RunFailed where none can be made."""
    if location.is_local:
        try:
            os.makedirs(location.path, exist_ok=True)
        except OSError as error:
            raise RunFailed(f"{location}: the folder cannot be made: {error.strerror}; choose another place") from None


def remove(location: Location) -> None:
    """A file or a whole folder; nothing when it is absent. With a staging folder go the unfinished uploads to it."""
    if not location.is_local:
        _remove_from_s3(location)
        return
    info = location.filesystem.get_file_info(location.path)
    if info.type == fs.FileType.Directory:
        shutil.rmtree(location.path, ignore_errors=True)
    elif info.type == fs.FileType.File:
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

    if location.name.endswith(_STAGING):
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


def read_table(location: Location) -> pa.Table:
    """A small Parquet file in memory."""
    with location.filesystem.open_input_file(location.path) as stream:
        return pq.read_table(stream)


def sha256(location: Location) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with location.filesystem.open_input_stream(location.path) as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def holds_only(output: Location, is_ours: Callable[[str], bool]) -> bool:
    """Whether files are at an output, all of them with names of ours (relative to it), so that they may be replaced.

    Raises UserError when any other file is there: those are nobody's to delete.
    """
    if output.filesystem.get_file_info(output.path).is_file:
        raise UserError(f"--output {output} is a file; give a folder")
    there = [info.path[len(output.path) + 1 :] for info in list_files(output)]
    foreign = next((name for name in there if not is_ours(name)), None)
    if foreign is not None:
        raise UserError(
            f"--output {output} has other files in it ({foreign}), which are not replaced; choose a new or empty place"
        )
    return bool(there)


_STAGING = ".staging"


def staging_of(output: Location) -> Location:
    """Where a dataset is made before it is published: beside it, so that a published folder holds nothing else."""
    return output.sibling(f".{output.name}{_STAGING}")


def resolve_output(uri: str) -> Location:
    """The place of an output, links followed. Raises UserError for a mount point, which cannot be replaced whole."""
    location = resolve(uri)
    if not location.is_local:
        return location
    path = os.path.realpath(location.path)
    if os.path.ismount(path):
        raise UserError(
            f"--output {uri} is a mount point, which cannot be replaced as a whole; give a folder inside it"
        )
    return Location(location.filesystem, path, path)


def publish(staging: Location, output: Location, *, last: str = "manifest.json") -> None:
    """Puts a finished staging folder in the place of ``output``; the file called ``last`` makes it exist.

    Local: the folder is renamed, an old dataset moved aside first, deleted after, and put back where that fails. S3:
    objects are copied on the server with ``last`` at the end, then what the new dataset does not have is deleted; the
    staging folder is left to the caller to remove. Raises RunFailed when there is nothing to publish, and when another
    run published there meanwhile.
    """
    if staging.is_local:
        with named(output.uri):
            local_files.publish(staging.path, output.path)
        return
    from clipmill.storage.s3.publish import publish_by_copy

    publish_by_copy(list_files(staging), list_files(output), staging.path, output.path, last)


def reference(source: Location, target: Location) -> None:
    """The bytes of a file under another name on the same storage, without moving them: a hard link where the disk can,
    a copy on the server on S3. Neither name may be written into later; what is there is replaced."""
    if not source.is_local:
        from clipmill.storage.s3.transfer import copy

        copy(source.path, target.path, source.filesystem.get_file_info(source.path).size)
        return
    make_folder(target.sibling(""))
    with named(target.uri):
        local_files.link(source.path, target.path)


def has_retired(output: Location) -> bool:
    """Whether an old dataset lies beside an output: a run was killed before it had put or deleted all."""
    return output.is_local and os.path.lexists(local_files.retired(output.path))


def remove_retired(output: Location) -> None:
    """Deletes the old dataset beside an output; there has to be a new one."""
    if output.is_local:
        shutil.rmtree(local_files.retired(output.path), ignore_errors=True)


def local_copy(location: Location, cache: Path, digest: str) -> Path:
    """A local file with these bytes: the file itself when it is local, else a copy in ``cache`` named by its sha256.

    A download that broke off is continued by the next. Raises RunFailed when there is no such object, when the bytes do
    not have the digest they should, or when the cache has no room.
    """
    if location.is_local:
        return Path(location.path)
    from clipmill.storage.s3.cache import cached

    return cached(location.path, cache, digest)
