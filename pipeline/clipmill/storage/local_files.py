"""Local files that appear whole or not at all, or only if what is there is what was seen, as S3 can do it."""

import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clipmill.core.errors import RunFailed
from clipmill.storage.written import HashingStream, named

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


@contextmanager
def writer(path: str) -> Iterator[HashingStream]:
    """A stream to a file that gets its name when it is whole and on the disk. Raises RunFailed when it cannot."""
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with named(path):
            file = open(temporary, "xb")  # noqa: SIM115
        try:
            yield HashingStream(file, path)
            with named(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with named(path):
                file.close()
        with named(path):
            os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def publish(staging: str, output: str) -> None:
    """A folder renamed to the place of another, which is moved aside first and deleted after.

    Raises RunFailed when there is no such folder, and OSError when it cannot be renamed: then the other is put back.
    """
    if not os.path.isdir(staging):
        raise RunFailed(f"{staging}, which was to be published at {output}, is gone; run the same command again")
    aside = retired(output)
    if os.path.exists(output):
        remove_folder(aside)
        os.replace(output, aside)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    try:
        os.replace(staging, output)
    except OSError:
        if os.path.exists(aside):
            os.replace(aside, output)
        raise
    remove_folder(aside)


@contextmanager
def deleting(path: str) -> Iterator[None]:
    """A failure to delete as a RunFailed that names the place; what is gone already is no failure."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFailed(
            f"{error.filename or path}: could not be deleted: {error.strerror}; give permission, and run the command again"
        ) from None


def remove_folder(path: str) -> None:
    """A folder and all below it. Raises RunFailed where something of it cannot be deleted; the rest is gone then."""
    failed: list[OSError] = []

    def note(function: object, name: str, reason: Any) -> None:
        error = reason[1] if isinstance(reason, tuple) else reason
        if not isinstance(error, FileNotFoundError):
            failed.append(error)

    shutil.rmtree(path, onerror=note)
    for error in failed[:1]:
        with deleting(path):
            raise error


def link(source: str, target: str) -> None:
    """Another name for a file's bytes, or a copy where the file system has no links; what is there is replaced."""
    temporary = f"{target}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    if os.path.exists(temporary):
        os.unlink(temporary)  # the system leaves both names where they are links to one file already


def retired(output: str) -> str:
    """Where an old dataset lies while another takes its place."""
    folder, name = os.path.split(output)
    return os.path.join(folder, f".{name}.retired")


def get(path: str) -> tuple[bytes, str, float]:
    """A file's bytes, their version and its age in seconds. Raises FileNotFoundError."""
    with open(path, "rb") as file:
        data = file.read()
        age = time.time() - os.fstat(file.fileno()).st_mtime
    return data, _version(data), age


def put_if(path: str, data: bytes, version: str | None) -> str | None:
    """Writes a file only where ``version`` is what is there (None: nothing); its new version, or None if it is not.

    Whoever writes that file must do it this way. Raises OSError when it cannot be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with _alone(os.path.dirname(path)):
            written = _take(temporary, path) if version is None else _replace(temporary, path, version)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return _version(data) if written else None


def _take(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.exists(path):
            return False
        os.replace(temporary, path)
    return True


def _replace(temporary: str, path: str, version: str) -> bool:
    try:
        if get(path)[1] != version:
            return False
    except FileNotFoundError:
        return False
    os.replace(temporary, path)
    return True


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keeps other writers of this kind out of a folder for a moment, where its file system can lock folders."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        yield
    finally:
        os.close(handle)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
