"""FAISS files read within limits: what is read of a file takes no more memory than follows from the bytes that it has.

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
_TABLES = 64
"""FAISS also holds the tables to the limit that it would make of centroids and codebooks for another metric: of each list as
many numbers as the codes can take values. They are up to so many times as large as the centroids in the file."""
_lock = threading.Lock()
_usual = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
_sizes: list[int] = []


def read_index(path: str) -> Any:
    """The index in a local file. Raises RuntimeError, as FAISS does, where it is none or names sizes beyond its own."""
    with limits(os.path.getsize(path)):
        return faiss.read_index(path)


@contextmanager
def limits(size: int) -> Iterator[None]:
    """No array read meanwhile is larger than what could be made of ``size`` bytes, and nothing is repeated more often."""
    with _lock:
        _sizes.append(size)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _sizes.remove(size)
            _apply()


def _apply() -> None:
    largest = max(_sizes, default=0)
    in_bytes, loops = (_TABLES * largest + _ROOM, largest + _ROOM) if _sizes else _usual
    faiss.set_deserialization_vector_byte_limit(in_bytes)
    faiss.set_deserialization_loop_limit(loops)
