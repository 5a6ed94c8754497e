"""The cache: local copies of objects, each named by the sha256 of its bytes; what it holds, and what of it may go.

A copy that was used lately stays, whatever the limit: an index that is larger than the cache may be open.
"""

import os
import re
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clipmill.core.errors import UserError
from clipmill.core.values import parse_bytes

LIMIT_VARIABLE = "CLIPMILL_CACHE_LIMIT"
DEFAULT_LIMIT = 20 << 30
_KEPT_SECONDS = 600.0
_COPY = re.compile(r"([0-9a-f]{64})-.+")


@dataclass(frozen=True)
class Copy:
    """A file of the cache: its bytes, when it was last used (seconds since 1970), and the sha256 that it is named by."""

    path: Path
    bytes: int
    used: float
    sha256: str


def copies_in(cache: Path) -> list[Copy]:
    """The copies that are there, what was used longest ago first; those that are half there are among them."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(cache.expanduser()):
            match = _COPY.fullmatch(entry.name)
            if match and entry.is_file(follow_symlinks=False):
                status = entry.stat()
                found.append(Copy(Path(entry.path), status.st_size, status.st_mtime, match[1]))
    return sorted(found, key=lambda copy: (copy.used, copy.path.name))


def note_use(path: Path) -> None:
    """A copy is being used now."""
    with suppress(OSError):
        os.utime(path)


def limit() -> int:
    """The most bytes that the cache should hold. Raises UserError where the environment names none that can be read."""
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return DEFAULT_LIMIT
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UserError(f"{LIMIT_VARIABLE}: {error}") from None


def shrink(cache: Path, most: int, *, kept_seconds: float = _KEPT_SECONDS) -> list[Copy]:
    """Deletes what was used longest ago, until at most so many bytes are left, and returns it. What was used within
    ``kept_seconds`` stays."""
    copies = copies_in(cache)
    total, gone = sum(copy.bytes for copy in copies), []
    for copy in copies:
        if total <= most or time.time() - copy.used < kept_seconds:
            break
        copy.path.unlink(missing_ok=True)
        total -= copy.bytes
        gone.append(copy)
    return gone


def forget(cache: Path, digests: Collection[str]) -> list[Copy]:
    """Deletes the copies of these contents, and returns them."""
    gone = [copy for copy in copies_in(cache) if copy.sha256 in digests]
    for copy in gone:
        copy.path.unlink(missing_ok=True)
    return gone
