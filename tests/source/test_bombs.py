"""What asks for far more memory than it has bytes is refused, or decoded within bounds: measured, each in one process."""

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipmill.core.errors import RunFailed, UserError
from clipmill.core.settings import ImportSettings
from clipmill.source import decode, tar_samples
from clipmill.source.columns import choose_columns
from clipmill.source.cutting import plan_units
from clipmill.source.decode import Rejected, decode_image
from clipmill.source.importers.webdataset import read_webdataset
from clipmill.source.inputs import find_inputs
from clipmill.source.reading import read_units
from clipmill.storage import resolve

VALUE, ROWS = 2_700_000, 700
_PEAK = """
import sys
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
def afresh():
    open("/proc/self/clear_refs", "w").write("5")
    return peak()
"""


def measured(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", _PEAK + code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def flat() -> pa.Table:
    return pa.table({"image": pa.array([b"\xff\xd8\xff" + bytes(VALUE)] * ROWS, pa.binary())})


def in_a_struct() -> pa.Table:
    pictures = pa.array(
        [{"bytes": bytes(VALUE), "path": "x"}] * ROWS, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    return pa.table({"image": pictures})


def captions() -> pa.Table:
    return pa.table({"caption": pa.array(["a" * VALUE] * ROWS)})


def captions_of_one_row() -> pa.Table:
    return pa.table({"caption": pa.array([["a" * VALUE] * ROWS])})


def kept() -> pa.Table:
    return pa.table({"caption": ["a"] * ROWS, "other": pa.array(["a" * VALUE] * ROWS)})


_READ = """
from clipmill.core.errors import RunFailed
from clipmill.source.columns import choose_columns
from clipmill.source.inputs import find_inputs
from clipmill.source.reading import read_units
from clipmill.source.cutting import plan_units
inputs = find_inputs(sys.argv[1])
before = afresh()
try:
    for table in read_units(plan_units(inputs, 1024), inputs, choose_columns(inputs)):
        pass
    print("read")
except RunFailed as error:
    print(error)
print(peak() - before)
"""


@pytest.mark.parametrize(
    "make", [flat, in_a_struct, captions, captions_of_one_row, kept], ids=lambda make: make.__name__
)
def test_a_dictionary_that_stands_in_every_row_is_refused(tmp_path: Path, make: Callable[[], pa.Table]) -> None:
    pq.write_table(make(), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 5000
    *said, most = measured(_READ, str(tmp_path)).splitlines()
    assert "a.parquet: could not be read near row" in " ".join(said)
    assert int(most) < 1_000_000_000


def test_pages_of_zeros_are_refused_from_the_footer(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([bytes(200 << 20)] * 3, pa.large_binary())})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    inputs = find_inputs(str(tmp_path))
    with pytest.raises(RunFailed, match="column 'image' has"):
        list(read_units(plan_units(inputs, 10), inputs, choose_columns(inputs)))


def test_lists_that_share_captions_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [[f"caption {number % 7}", "x" * 50_000] for number in range(5000)]
    pq.write_table(pa.table({"caption": rows[:900]}), tmp_path / "a.parquet")
    inputs = find_inputs(str(tmp_path))
    (table,) = read_units(plan_units(inputs, 1000), inputs, choose_columns(inputs))
    assert table.column("captions").to_pylist() == rows[:900]


def png(side: int, bits: int, colour: int) -> bytes:
    """Black, of 1, 8 or 16 bits a sample; colour 0 is grey, 2 RGB, 6 RGBA."""
    samples = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + side * bits * samples // 8)
    packer = zlib.compressobj()
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(mode: str, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (3000, 3000)).save(stream, kind, **options)
    return stream.getvalue()


def test_decoding_takes_the_memory_that_is_reckoned_for_it(tmp_path: Path) -> None:
    pictures = {
        "grey16": png(3000, 16, 0),
        "rgb16": png(3000, 16, 2),
        "rgba16": png(3000, 16, 6),
        "bits": png(3000, 1, 0),
        "jpeg": saved("RGB", "JPEG"),
        "progressive": saved("RGB", "JPEG", progressive=True),
        "cmyk": saved("CMYK", "JPEG"),
        "webp": saved("RGBA", "WEBP"),
        "gif": saved("P", "GIF"),
        "float": saved("F", "TIFF", compression="tiff_lzw"),
        "int": saved("I", "TIFF", compression="tiff_lzw"),
        "jpeg2000": saved("RGB", "JPEG2000"),
    }
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    code = """
import io, pathlib
from PIL import Image
from clipmill.source import decode, tar_samples
decode.decode_image(pathlib.Path(sys.argv[1], "grey16").read_bytes(), 10**8)
for path in pathlib.Path(sys.argv[1]).iterdir():
    data = path.read_bytes()
    reckoned = decode._bytes_a_pixel(Image.open(io.BytesIO(data))) * 9_000_000
    before = afresh()
    decode.decode_image(data, 10**8)
    print(path.name, peak() - before, reckoned)
"""
    for line in measured(code, str(tmp_path)).splitlines():
        name, taken, reckoned = line.split()
        assert int(taken) < int(reckoned) + 40_000_000, name


def test_few_pixels_that_take_much_memory_are_a_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(1000, 16, 2)
    assert decode_image(data, 1_000_000).shape == (3, 1000, 1000)
    monkeypatch.setattr(decode, "MAX_DECODED_BYTES", 7_000_000)
    with pytest.raises(
        Rejected, match=r"1000×1000 pixels of PNG \(RGB\) take 8000000 bytes to decode, the limit is 7000000"
    ):
        decode_image(data, 1_000_000)
    assert decode_image(data, 3_000_000).shape == (3, 1000, 1000)


class _Zeros(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def shard(path: Path, *members: tuple[str, int, bytes]) -> Path:
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for name, size, kind in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = size, kind
            archive.addfile(member, _Zeros() if size else None)  # type: ignore[arg-type]
    return path


def all_of(path: Path) -> list[str]:
    settings = ImportSettings(source=str(path), output="unused")
    return [sample.id for sample in read_webdataset(resolve(path), settings).samples]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (("a.jpg", 200 << 20, tarfile.REGTYPE), "a.jpg has 209,715,200 bytes"),
        (("a.json", 20 << 20, tarfile.REGTYPE), "a.json has 20,971,520 bytes"),
        (("a.txt", 20 << 20, tarfile.REGTYPE), "a.txt has"),
        (("././@LongLink", 20 << 20, tarfile.GNUTYPE_LONGNAME), "a header of"),
        (("././@LongLink", 20 << 20, tarfile.GNUTYPE_LONGLINK), "a header of"),
        (("././@PaxHeader", 20 << 20, tarfile.XHDTYPE), "a header of"),
        (("././@PaxHeader", 20 << 20, tarfile.XGLTYPE), "a header of"),
        (("a.jpg", 0, tarfile.GNUTYPE_SPARSE), "a file with holes"),
    ],
)
def test_members_of_an_archive_that_ask_for_much_are_refused(
    tmp_path: Path, member: tuple[str, int, bytes], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        all_of(shard(tmp_path / "x.tgz", member))


def test_what_is_no_part_of_a_sample_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_samples, "_TEXT_BYTES", 10)
    path = shard(tmp_path / "x.tgz", ("a.jpg", 5, tarfile.REGTYPE), ("a.npy", 1 << 20, tarfile.REGTYPE))
    assert all_of(path) == ["a"]


@pytest.mark.parametrize("packing", ["gz", "bz2", ""])
def test_archives_are_known_by_their_bytes_and_not_by_their_names(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, f"w:{packing}") as archive:
        member = tarfile.TarInfo("a.txt")
        archive.addfile(member, io.BytesIO())
    assert all_of(path) == ["a"]


def test_records_that_are_nested_deeply_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    data = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match=r"x\.tar: a\.json is nested too deeply"):
        all_of(path)
    assert json.loads(b"[" * 100 + b"]" * 100)
