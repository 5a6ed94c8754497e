"""Sounds and videos as open files, wherever they lie: bytes of a column, a local file, an object on S3."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from clipmill.source.image_files import find_image, told
from clipmill.source.media import Medium, Stream
from clipmill.storage import Location

_IN_MEMORY = 32 << 20
_CHUNK = 4 << 20


@contextmanager
def open_clip(path: str, base: Location, allowed: Sequence[str], medium: Medium) -> Iterator[tuple[Stream, bytes]]:
    """A file that the input names by path, open, and the sha256 of its bytes. One on S3 is fetched first, to a temporary
    file if it is large: decoders go back and forth in it. Raises as `clipmill.source.image_files.load_image_bytes` does."""
    found = find_image(path, base, allowed, medium)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        digest = hashlib.sha256()
        opened: Any = copy
        with told(path, found.place.is_local, medium):
            source = found.place.filesystem.open_input_file(found.place.path)
        with source:
            with told(path, found.place.is_local, medium):
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    if not found.place.is_local:
                        copy.write(chunk)
            if found.place.is_local:
                source.seek(0)
                opened = source
            yield opened, digest.digest()


@contextmanager
def open_bytes(data: pa.Scalar) -> Iterator[tuple[Stream, bytes]]:
    """The bytes of a column, not copied, and their sha256."""
    buffer = data.as_buffer()
    stream: Any = pa.BufferReader(buffer) if buffer.size else io.BytesIO()
    yield stream, hashlib.sha256(memoryview(buffer)).digest()
