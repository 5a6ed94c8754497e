"""A URI in, a filesystem out (local, S3), and writes that publish everything or nothing."""

import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RunFailed, UserError

_HASH_CHUNK = 8 << 20
_COPY_THREADS = 16


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

    Raises UserError for a scheme that is not known or a bucket that cannot be reached.
    """
    text = str(uri)
    if not text.strip():
        raise UserError("an empty path was given where a file or folder is needed")
    scheme = text.split("://", 1)[0] if "://" in text else ""
    if scheme in ("", "file"):
        path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
        return Location(fs.LocalFileSystem(), path, path)
    if scheme != "s3":
        raise UserError(f"{text}: storage of kind {scheme}:// is not supported; use a local path or s3://bucket/prefix")
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{text}: cannot be opened: {error}") from None
    return Location(filesystem, path, text.rstrip("/"))


def exists(location: Location) -> bool:
    """Whether a file or folder is there."""
    return location.filesystem.get_file_info(location.path).type != fs.FileType.NotFound


def read_bytes(location: Location) -> bytes:
    """The whole of a small file. Raises FileNotFoundError when there is no such file."""
    if not location.filesystem.get_file_info(location.path).is_file:
        raise FileNotFoundError(location.path)
    with location.filesystem.open_input_file(location.path) as stream:
        return stream.read()


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
    """A file or a whole folder; nothing when it is absent."""
    info = location.filesystem.get_file_info(location.path)
    if info.type == fs.FileType.Directory and location.is_local:
        shutil.rmtree(location.path, ignore_errors=True)
    elif info.type == fs.FileType.Directory:
        location.filesystem.delete_dir(location.path)
    elif info.type == fs.FileType.File:
        location.filesystem.delete_file(location.path)


@contextmanager
def atomic_writer(location: Location) -> Iterator[Any]:
    """A stream to a file that appears whole under its name, or not at all.

    On S3 the file is made on the local disk and uploaded when it is whole. What the caller raises passes through;
    raises RunFailed, naming the place, when the disk or the bucket does not take the file.
    """
    if location.is_local:
        make_folder(location.sibling(""))
        temporary = f"{location.path}.{uuid.uuid4().hex[:8]}.tmp"
    else:
        temporary = os.path.join(tempfile.gettempdir(), f"clipmill-{uuid.uuid4().hex}.tmp")
    try:
        with _named(location):
            stream = fs.LocalFileSystem().open_output_stream(temporary)
        try:
            yield _Named(stream, location)
        finally:
            with _named(location):
                stream.close()
        with _named(location):
            if location.is_local:
                with open(temporary, "rb+") as written:
                    os.fsync(written.fileno())
                os.replace(temporary, location.path)
            else:
                bucket, key = location.path.split("/", 1)
                _s3().upload_file(temporary, bucket, key)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


@contextmanager
def _named(location: Location) -> Iterator[None]:
    """A failure of the storage as a RunFailed that names the place."""
    try:
        yield
    except (OSError, BotoCoreError, ClientError, S3UploadFailedError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunFailed(
            f"{location}: could not be written: {reason}; make room or give permission, and run the command again"
        ) from error


class _Named(io.RawIOBase):
    """A stream whose failed writes name the file, since a full disk is noticed there first."""

    def __init__(self, stream: pa.NativeFile, location: Location) -> None:
        self._stream = stream
        self._location = location

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with _named(self._location):
            self._stream.write(data)
        return memoryview(data).nbytes

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position


@lru_cache(maxsize=1)
def _s3() -> Any:
    return boto3.client("s3")


def write_bytes(location: Location, data: bytes) -> None:
    """A small file, whole or not at all."""
    with atomic_writer(location) as stream:
        stream.write(data)


def write_table(location: Location, table: pa.Table, **options: object) -> None:
    """A Parquet file, whole or not at all; options go to the Parquet writer."""
    with atomic_writer(location) as stream:
        pq.write_table(table, stream, **options)


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
    """Whether files are at an output, all of them with names of ours, so that they may be replaced.

    Raises UserError when any other file is there: those are nobody's to delete.
    """
    if output.filesystem.get_file_info(output.path).is_file:
        raise UserError(f"--output {output} is a file; give a folder")
    there = list_files(output)
    foreign = next((info.path[len(output.path) + 1 :] for info in there if not is_ours(info.base_name)), None)
    if foreign is not None:
        raise UserError(
            f"--output {output} has other files in it ({foreign}), which are not replaced; choose a new or empty place"
        )
    return bool(there)


def staging_of(output: Location) -> Location:
    """Where a dataset is made before it is published: beside it, so that a published folder holds nothing else."""
    return output.sibling(f".{output.name}.staging")


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

    Local: the folder is renamed, an old dataset moved aside first and deleted after. S3: objects are copied on the
    server with ``last`` at the end, then what the new dataset does not have is deleted; the staging folder is left to
    the caller to remove.
    """
    with _named(output):
        if staging.is_local:
            _publish_by_rename(staging, output)
        else:
            _publish_by_copy(staging, output, last)


def _publish_by_rename(staging: Location, output: Location) -> None:
    retired = output.sibling(f".{output.name}.retired")
    remove(retired)
    if exists(output):
        os.replace(output.path, retired.path)
    os.makedirs(os.path.dirname(output.path), exist_ok=True)
    os.replace(staging.path, output.path)
    shutil.rmtree(retired.path, ignore_errors=True)


def _publish_by_copy(staging: Location, output: Location, last: str) -> None:
    old = {info.path for info in list_files(output)}
    made = [info.path for info in list_files(staging)]
    targets = {path: output.path + path[len(staging.path) :] for path in made}
    finishing = f"{staging.path}/{last}"

    def copy(path: str) -> None:
        bucket, key = path.split("/", 1)
        target_bucket, target_key = targets[path].split("/", 1)
        _s3().copy({"Bucket": bucket, "Key": key}, target_bucket, target_key)

    with ThreadPoolExecutor(_COPY_THREADS) as pool:
        list(pool.map(copy, (path for path in made if path != finishing)))
    copy(finishing)
    for path in sorted(old - set(targets.values())):
        output.filesystem.delete_file(path)


def local_copy(location: Location, cache: Path, digest: str) -> Path:
    """A local file with these bytes: the file itself when it is local, else a copy in ``cache`` named by its sha256.

    Raises RunFailed when the bytes do not have the digest they should.
    """
    if location.is_local:
        return Path(location.path)
    target = cache / f"{digest}-{location.name}"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    fs.copy_files(
        location.path,
        str(temporary),
        source_filesystem=location.filesystem,
        destination_filesystem=fs.LocalFileSystem(),
    )
    found = sha256(resolve(temporary))
    if found != digest:
        temporary.unlink()
        raise RunFailed(f"{location}: its sha256 is {found}, the manifest says {digest}: the file was altered or cut")
    os.replace(temporary, target)
    return target
