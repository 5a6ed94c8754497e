"""FAISS files read within limits: what is read of a file takes no more memory than the file has bytes.

FAISS trusts what it reads, and a few bytes can name sizes that exhaust memory. Its limits are those of the process, so files
that are read at the same time have the largest of theirs.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss

_ROOM = 1 << 20
"""Bytes above those of the file that a part of it may claim: padding and rounding."""
_lock = threading.Lock()
_usual = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
_sizes: list[int] = []


def read_index(path: str) -> Any:
    """The index in a local file. Raises RuntimeError, as FAISS does, where it is none or names sizes beyond its own."""
    with limits(os.path.getsize(path)):
        return faiss.read_index(path)


@contextmanager
def limits(size: int) -> Iterator[None]:
    """No array read meanwhile is larger than ``size`` bytes and some, and nothing is repeated more often."""
    with _lock:
        _sizes.append(size + _ROOM)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _sizes.remove(size + _ROOM)
            _apply()


def _apply() -> None:
    in_bytes, loops = (max(_sizes), max(_sizes)) if _sizes else _usual
    faiss.set_deserialization_vector_byte_limit(in_bytes)
    faiss.set_deserialization_loop_limit(loops)
