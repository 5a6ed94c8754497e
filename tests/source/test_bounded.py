"""What would keep a decoder busy for long, or take all memory, ends soon; and what is neither file nor folder is told."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipmill.core.errors import UserError
from clipmill.source import decode
from clipmill.source.decode import Rejected, decode_image
from clipmill.source.importers import metadata
from clipmill.source.importers.metadata import read_table
from clipmill.source.importers.npy import files_of
from clipmill.source.inputs import find_inputs

MANY = 300_000
VALUE, ROWS = 100_000, 900


def saved(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)).save(stream, kind)
    return stream.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def jpeg_of_zeros() -> bytes:
    return saved("JPEG")[:20] + bytes(MANY)


def jpeg_of_ones() -> bytes:
    return b"\xff\xd8\xff" + b"\xff" * MANY


def jpeg_of_comments() -> bytes:
    whole = saved("JPEG")
    return whole[:2] + b"\xff\xfe\0\x02" * MANY + whole[2:]


def png_of_texts() -> bytes:
    whole = saved("PNG")
    return whole[:33] + chunk(b"teXt", b"") * MANY + whole[33:]


def gif_of_comments() -> bytes:
    whole = saved("GIF")
    return whole[:781] + b"\x21\xfe\x01a\0" * MANY + whole[781:]


class _Counting(decode._Counted):
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        type(self).reads += 1
        return super().read(size)


@pytest.mark.parametrize(
    "make",
    [jpeg_of_zeros, jpeg_of_ones, jpeg_of_comments, png_of_texts, gif_of_comments],
    ids=lambda make: make.__name__,
)
def test_a_header_without_end_is_a_reject_after_so_many_parts(
    make: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Counting, "reads", 0)
    monkeypatch.setattr(decode, "_Counted", _Counting)
    with pytest.raises(Rejected):
        decode_image(make(), 10**6)
    assert 1000 < _Counting.reads < 210_000


@pytest.mark.parametrize("kind", decode.FORMATS)
def test_pictures_of_every_format_take_few_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_MOST_READS", 200)
    assert decode_image(saved(kind), 10**6).shape == (3, 40, 50)


def test_metadata_that_become_far_more_than_the_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "_MOST_BYTES", 10 << 20)
    table = pa.table({"caption": ["a"] * ROWS, "other": pa.array(["x" * VALUE] * ROWS)})
    pq.write_table(table, tmp_path / "m.parquet", compression="zstd")
    with pytest.raises(UserError, match=r"m\.parquet: its .* once decoded"):
        read_table(str(tmp_path / "m.parquet"), None)


def test_metadata_keep_their_types_and_values(tmp_path: Path) -> None:
    texts = pa.array([f"caption {number % 7}" for number in range(5000)]).dictionary_encode()
    table = pa.table({"caption": texts, "number": pa.array(range(5000), pa.int16())})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=1300)
    _, read = read_table(str(tmp_path / "m.parquet"), None)
    assert read.schema.equals(table.schema)
    assert read.to_pydict() == table.to_pydict()


def test_an_input_that_is_a_pipe_or_a_socket_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.parquet")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.parquet")
    for name in ("pipe.parquet", "socket.parquet"):
        for read in (find_inputs, lambda name: files_of(name, (".npy",), "--images")):
            with pytest.raises(UserError, match=f"{name} is a pipe, socket or device"):
                read(name)


def test_vectors_whose_file_is_a_link_to_nowhere_are_not_passed_over(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.ones((2, 3), np.float32))
    (tmp_path / "1.npy").symlink_to("gone.npy")
    with pytest.raises(UserError, match=r"1\.npy is a link to gone\.npy"):
        files_of(str(tmp_path), (".npy",), "--images")
