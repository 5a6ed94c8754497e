"""What goes into a file, hashed on its way, and failures of the disk that name the file."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from clipmill.core.errors import RunFailed


@dataclass(frozen=True)
class Written:
    """What was written to a file: how many bytes, and their sha256 in hex."""

    bytes: int
    sha256: str


@contextmanager
def named(place: str) -> Iterator[None]:
    """A failure of the disk as a RunFailed that names the place."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise RunFailed(
            f"{place}: could not be written: {reason}; make room or give permission, and run the command again"
        ) from error


class HashingStream(io.RawIOBase):
    """A stream that knows what went through it, and whose failed writes name the file: a full disk is noticed there."""

    def __init__(self, stream: IO[bytes], place: str) -> None:
        self._stream = stream
        self._place = place
        self._digest = hashlib.sha256()
        self._size = 0

    @property
    def written(self) -> Written:
        """What was written so far."""
        return Written(self._size, self._digest.hexdigest())

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with named(self._place):
            self._stream.write(data)
        self._digest.update(data)
        self._size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def tell(self) -> int:
        return self._size
