"""Local files that appear whole or not at all, or only if what is there is what was seen, as S3 can do it."""

import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from clipmill.core.errors import RunFailed
from clipmill.storage.written import HashingStream, named

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_CLAIM_SECONDS = 10.0
"""So long is no writer at it that lives: it writes one small file."""
_CLAIM_LOOK_SECONDS = 0.01


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
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    with _alone(path):
        temporary = os.path.join(folder, f".{name}.new")  # one name, so that those killed here leave one file at most
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
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
def _alone(path: str) -> Iterator[None]:
    """Keeps other writers of this kind away from a file for a moment, by a file beside it.

    That file is locked, opened for writing as network file systems want it, and removed by whoever holds the lock. Where
    files cannot be locked, another is made exclusively; one left by a writer that died lapses.
    """
    folder, name = os.path.split(path)
    lock, claim = os.path.join(folder, f".{name}.lock"), os.path.join(folder, f".{name}.claim")
    handle = _locked(lock)
    if handle is None:
        _claim(claim)
    try:
        yield
    finally:
        try:
            os.unlink(claim if handle is None else lock)
        finally:
            if handle is not None:
                os.close(handle)


def _locked(lock: str) -> int | None:
    """A handle of the file, which is locked; None where files cannot be locked."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            os.close(handle)
            if error.errno not in _NO_LOCKS:
                raise
            with suppress(FileNotFoundError):
                os.unlink(lock)
            return None
        if _is_still(handle, lock):
            return handle
        os.close(handle)  # its holder removed it before this one got the lock


def _claim(path: str) -> None:
    """Makes the file, once there is none; waits for its maker, and removes what one left that died."""
    seen, since = -1, 0.0
    while True:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return
        except FileExistsError:
            number = _number(path)
        if number != seen:
            seen, since = number, time.monotonic()
        elif time.monotonic() - since > _CLAIM_SECONDS and _number(path) == seen:
            with suppress(FileNotFoundError):
                os.unlink(path)
        time.sleep(_CLAIM_LOOK_SECONDS)


def _number(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return -1


def _is_still(handle: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (os.fstat(handle).st_dev, os.fstat(handle).st_ino)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
