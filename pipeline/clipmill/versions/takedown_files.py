"""What users hand in to be taken down: a file of ids, a picture, or a file of hashes."""

import hashlib
import re

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.versions.takedown import Takedown

_HASH = re.compile(r"[0-9a-fA-F]{64}")


def read_ids(uri: str) -> Takedown:
    """The ids in a text file, one per line; empty lines count for nothing. Raises UserError where it holds none."""
    try:
        lines = _read("--ids", uri).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"--ids {uri} is not a text file in UTF-8; write one id a line") from None
    ids = frozenset(line.rstrip("\r") for line in lines if line.strip())
    if not ids:
        raise UserError(f"--ids {uri}: the file holds no id; write one id a line")
    return Takedown(ids=ids)


def read_contents(uri: str) -> Takedown:
    """The content of a picture: the sha256 of the file; or those that a text file lists, one per line, each as of sha256sum.

    Raises UserError where there is no such file, or nothing in it.
    """
    data = _read("--content", uri)
    if not data.strip():
        raise UserError(f"--content {uri}: the file is empty; give a picture, or a text file with one sha256 a line")
    lines = [line.split() for line in data.split(b"\n") if line.strip()]
    firsts = [line[0].decode("ascii", errors="replace") for line in lines]
    if all(_HASH.fullmatch(first) for first in firsts):
        return Takedown(contents=frozenset(first.lower() for first in firsts))
    return Takedown(contents=frozenset([hashlib.sha256(data).hexdigest()]))


def _read(option: str, uri: str) -> bytes:
    try:
        return storage.read_bytes(storage.resolve(uri))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{option} {uri}: there is no such file") from None
