"""Objects as files: read anywhere by ranged requests, always one version of them, continued wherever a body breaks."""

import io
import logging
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError
from urllib3.exceptions import HTTPError

from clipmill.core.errors import RunFailed, StorageFailed
from clipmill.storage.s3.client import client, pause
from clipmill.storage.s3.errors import code_of, told
from clipmill.storage.s3.requests import ask, head, split, version_of
from clipmill.storage.s3.settings import S3Settings

TAIL = 64 << 10
_LEAST_FETCH = 64 << 10
_MOST_AHEAD = 4 << 20
_WINDOWS = 4
_LOG = logging.getLogger(__name__)
_BROKEN = (BotoCoreError, HTTPError, OSError)


class Body:
    """The bytes from ``start`` to ``stop`` of one version of an object, as a stream that outlives broken connections."""

    def __init__(self, path: str, start: int, stop: int, version: str, answer: Any = None) -> None:
        self._path = path
        self._start, self._at, self._stop = start, start, stop
        self._version = version
        self._stream = answer["Body"] if answer else None

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes; fewer only at the end.

        Raises RunFailed when the object was replaced, deleted or damaged meanwhile, StorageFailed when its bytes cannot
        be had however often they are asked for, and StorageRefused.
        """
        wanted = self._stop - self._at if size < 0 else min(size, self._stop - self._at)
        pieces: list[bytes] = []
        failures, first_failure = 0, 0.0
        while wanted > 0:
            try:
                piece = self._open().read(wanted)
                reason = "it ended too soon"
            except FileNotFoundError:
                raise RunFailed(f"s3://{self._path} was deleted while it was being read") from None
            except FlexibleChecksumError:
                if self._at > self._start:
                    raise RunFailed(f"s3://{self._path} does not have the checksum that it was stored with") from None
                piece, reason = b"", "its checksum was wrong"
            except _BROKEN as error:
                piece, reason = b"", type(error).__name__
            if piece:
                pieces.append(piece)
                self._at += len(piece)
                wanted -= len(piece)
                failures = 0
                continue
            self.close()
            failures += 1
            first_failure = first_failure if failures > 1 else time.monotonic()
            if time.monotonic() - first_failure >= S3Settings.from_environment().patience:
                raise StorageFailed(
                    f"s3://{self._path}: reading broke off {failures} times at byte {self._at} ({reason}); run the same "
                    "command again"
                )
            if failures > 1:  # one that passes at once is not worth a word
                _LOG.info("s3://%s: reading broke off %d times (%s); again", self._path, failures, reason)
            time.sleep(min(pause(failures), S3Settings.from_environment().patience))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Lets go of the connection; reading on opens another."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> Any:
        if self._stream is None:
            self._stream = fetch(self._path, self._at, self._stop, self._version)["Body"]
        return self._stream


def fetch(path: str, start: int, stop: int, version: str) -> dict[str, Any]:
    """The answer to a request for these bytes of this version.

    Raises RunFailed when the object is another by now, FileNotFoundError, StorageFailed and StorageRefused.
    """
    answer: dict[str, Any] = ask(
        "get_object", path, "s3:GetObject", Range=f"bytes={start}-{stop - 1}", IfMatch=f'"{version}"'
    )
    if version_of(answer) != version:
        raise RunFailed(f"s3://{path} was replaced while it was being read; run the same command again")
    return answer


@dataclass(frozen=True)
class _Window:
    start: int
    data: bytes
    ahead: int

    @property
    def stop(self) -> int:
        return self.start + len(self.data)


class ObjectFile(io.RawIOBase):
    """An object as a file to read anywhere in. Opening it takes one request, which brings its last 64 KiB along.

    What is read in sequence is fetched ahead in pieces of 64 KiB to 4 MiB, also at several places in turn.
    """

    def __init__(self, path: str) -> None:
        answer, start, self.size = _last_bytes(path, TAIL)
        self.version = version_of(answer)
        self._path = path
        self._at = 0
        data = Body(path, start, self.size, self.version, answer if self.size else None).read()
        self._tail = _Window(start, data, _LEAST_FETCH)
        self._windows: deque[_Window] = deque(maxlen=_WINDOWS)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        left = max(0, self.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        pieces: list[bytes] = []
        while wanted > 0:
            window = self._window(wanted)
            piece = window.data[self._at - window.start : self._at - window.start + wanted]
            pieces.append(piece)
            self._at += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _window(self, wanted: int) -> _Window:
        """A window that holds the next byte, fetched where there is none."""
        for window in (self._tail, *self._windows):
            if window.start <= self._at < window.stop:
                return window
        before = next((window for window in self._windows if window.stop == self._at), None)
        ahead = min(2 * before.ahead, _MOST_AHEAD) if before else _LEAST_FETCH
        if before:
            self._windows.remove(before)
        end = min(self._at + max(wanted, ahead), self.size)
        if self._at < self._tail.start < end:
            end = self._tail.start
        window = _Window(self._at, Body(self._path, self._at, end, self.version).read(), ahead)
        self._windows.append(window)
        return window


class ObjectStream(io.RawIOBase):
    """An object read from its beginning to its end, in one request where nothing breaks."""

    def __init__(self, path: str) -> None:
        answer = ask("get_object", path, "s3:GetObject")
        self._size = int(answer["ContentLength"])
        self.version = version_of(answer)
        self._body = Body(path, 0, self._size, self.version, answer)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        return self._body.read(-1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()


def _last_bytes(path: str, count: int) -> tuple[dict[str, Any], int, int]:
    """An answer with the last bytes of an object, where they start, and the object's size."""
    bucket, key = split(path)
    with told(path, "s3:GetObject"):
        try:
            answer: dict[str, Any] = client().get_object(Bucket=bucket, Key=key, Range=f"bytes=-{count}")
        except ClientError as error:
            if code_of(error) not in ("InvalidRange", "416"):
                raise
            empty = head(path)
            if empty is None:
                raise FileNotFoundError(f"s3://{path}") from None
            return empty, 0, 0
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.get("ContentRange", ""))
    if found is None:
        return answer, 0, int(answer["ContentLength"])
    return answer, int(found[1]), int(found[2])
