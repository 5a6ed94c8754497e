"""The inputs of `attacks`: each function fills a folder, and may run commands of the checkout that is attacked."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SECRET = "aVerySecretSignature0042"
Runner = Any
Prepare = Callable[[Path, Runner], None]
_ANSWERS: dict[str, tuple[pa.Array, pa.Array]] = {
    "uint64": (pa.array([1], pa.int64()), pa.array([2**64 - 1], pa.uint64())),
    "int64": (pa.array([0.5]), pa.array([2**53 + 1], pa.int64())),
    "timestamp": (
        pa.array([datetime(2020, 1, 1)], pa.timestamp("ns")),
        pa.array([datetime(9999, 12, 31)], pa.timestamp("s")),
    ),
    "decimal": (pa.array([0.5]), pa.array([Decimal("0.1")], pa.decimal128(5, 2))),
}


def bytes_of(place: Path) -> bytes:
    """All bytes of the files below a folder."""
    files = [place] if place.is_file() else sorted(place.rglob("*")) if place.is_dir() else []
    return b"".join(file.read_bytes() for file in files if file.is_file())


def picture(number: int = 0) -> bytes:
    """A small PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (number * 40 % 256, 90, 120)).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, name: str, columns: dict[str, Any], **options: Any) -> None:
    """A Parquet file of the input."""
    (folder / "in").mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "in" / name, **options)


def nothing(folder: Path, runner: Runner) -> None:
    """No input at all."""


def _two_files(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder, f"{name}.parquet", {"caption": ["a dog", "a cat"]})


def link_to_nowhere(folder: Path, runner: Runner) -> None:
    """One of two files is a link whose target went."""
    _two_files(folder)
    (folder / "in/b.parquet").unlink()
    (folder / "in/b.parquet").symlink_to("gone.parquet")


def link_in_a_circle(folder: Path, runner: Runner) -> None:
    """A folder that is a link to the one that holds it."""
    _two_files(folder)
    (folder / "in/again").symlink_to(folder / "in")


def pipe(folder: Path, runner: Runner) -> None:
    """One that nobody writes to."""
    _two_files(folder)
    os.mkfifo(folder / "in/c.parquet")


def pipe_alone(folder: Path, runner: Runner) -> None:
    """The input itself."""
    os.mkfifo(folder / "in")


def files_of_two_types(kind: str) -> Prepare:
    """A column that no type of both files holds."""

    def prepare(folder: Path, runner: Runner) -> None:
        for name, values in zip("ab", _ANSWERS[kind], strict=True):
            write(folder, f"{name}.parquet", {"caption": ["a dog"], "number": values})

    return prepare


def _publish(folder: Path, runner: Runner, columns: dict[str, Any]) -> None:
    write(folder, "a.parquet", {"image": [picture(0), picture(1)], **columns})
    (folder / "run.yaml").write_text("output: out\nembed:\n  input: in\n")
    assert runner.run(["run", "run.yaml"], folder).code == 0
    (folder / "unknown.txt").write_text("nobody\n")
    (folder / "derived.txt").write_text("a.parquet:1\n")


def published(folder: Path, runner: Runner) -> None:
    """A place with a version, of rows with ids."""
    _publish(folder, runner, {"id": ["x", "y"], "caption": ["a dog", "a cat"]})


def derived_ids(folder: Path, runner: Runner) -> None:
    """A place with a version, of rows without ids."""
    _publish(folder, runner, {"caption": ["a dog", "a cat"]})


def _secret_outside(folder: Path) -> Path:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "secret.txt").write_text(f"{SECRET}\n" * 20)
    return folder / "secret.txt"


def csv_outside(folder: Path, runner: Runner) -> None:
    """A listing that names a file above its folder."""
    _secret_outside(folder)
    (folder / "in/a.png").write_bytes(picture())
    (folder / "in/captions.csv").write_text("image,caption\na.png,a dog\n../secret.txt,a cat\n")


def coco_outside(folder: Path, runner: Runner) -> None:
    """Annotations that name one."""
    _secret_outside(folder)
    (folder / "in/annotations").mkdir()
    (folder / "in/images").mkdir()
    document = {
        "images": [{"id": 1, "file_name": "../../secret.txt"}],
        "annotations": [{"image_id": 1, "caption": "a dog"}],
    }
    (folder / "in/annotations/captions_val.json").write_text(json.dumps(document))


def parquet_outside(folder: Path, runner: Runner) -> None:
    """A column of paths with an absolute one."""
    place = _secret_outside(folder)
    (folder / "in/a.png").write_bytes(picture())
    write(folder, "a.parquet", {"image_path": ["a.png", str(place)], "caption": ["a dog", "a cat"]})


def link_outside(folder: Path, runner: Runner) -> None:
    """A picture that is a link to another file."""
    place = _secret_outside(folder)
    (folder / "in/a.png").write_bytes(picture())
    (folder / "in/b.png").symlink_to(place)


def embedded(folder: Path, runner: Runner) -> None:
    """Embeddings of three pictures with a score: a number, NaN and null."""
    columns = {"image": [picture(number) for number in range(3)], "score": [2.0, float("nan"), None]}
    write(folder, "a.parquet", columns)
    assert runner.run(["embed", "--input", "in", "--output", "e"], folder).code == 0


def forged_shards(folder: Path, runner: Runner) -> None:
    """A list of files that leads out of its dataset, with a manifest that agrees."""
    import hashlib

    embedded(folder, runner)
    place, manifest = folder / "e/shards.parquet", folder / "e/manifest.json"
    table = pq.read_table(place)
    files = [{**file, "path": f"../e/{file['path']}"} for file in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(files, table.schema), place)
    document = json.loads(manifest.read_text())
    document["shards_sha256"] = hashlib.sha256(place.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document))


def forged_unfinished(folder: Path, runner: Runner) -> None:
    """A record of unfinished work whose folder is another's."""
    published(folder, runner)
    (folder / "victim").mkdir()
    (folder / "victim/kept.txt").write_text("mine")
    (folder / "out/unfinished.json").write_text(json.dumps({"name": "../../victim", "key": "0" * 64, "base": None}))
    write(folder, "b.parquet", {"id": ["z"], "image": [picture(2)], "caption": ["a bird"]})


def presigned(folder: Path, runner: Runner) -> None:
    """Paths with signatures."""
    address = f"s3://bucket/a.png?X-Amz-Credential=KEY&X-Amz-Signature={SECRET}"
    other = f"https://bucket.s3.amazonaws.com/b.png?X-Amz-Signature={SECRET}"
    (folder / "in").mkdir()
    (folder / "in/a.png").write_bytes(picture())
    write(folder, "a.parquet", {"image_path": ["a.png", address, other], "caption": ["a dog", "a cat", "a cow"]})


def dictionary(folder: Path, runner: Runner) -> None:
    """700 rows that are one value of 2.7 MB, in a file of some hundred bytes."""
    write(folder, "a.parquet", {"image": [bytes(2_700_000)] * 699 + [picture()]}, compression="zstd")


def metadata_of_one_value(folder: Path, runner: Runner) -> None:
    """Vectors whose metadata are 900 rows of one text of a million letters."""
    np.save(folder / "images.npy", np.random.default_rng(0).normal(size=(900, 16)).astype(np.float32))
    table = pa.table({"caption": ["a dog"] * 900, "text": pa.array(["x" * 1_000_000] * 900)})
    pq.write_table(table, folder / "m.parquet", compression="zstd")


def headers_without_end(folder: Path, runner: Runner) -> None:
    """Ten JPEGs whose headers have three million parts each."""
    write(folder, "a.parquet", {"image": [b"\xff\xd8" + b"\xff\xe1\0\2" * 3_000_000] * 10 + [picture()]})


def wide_png(folder: Path, runner: Runner) -> None:
    """80 million samples of 16 bits: a reject, or decoded in little memory."""
    side = 9000
    row = bytes(1 + side * 2)
    packer = zlib.compressobj()
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    write(folder, "a.parquet", {"image": [png, picture()]})


def tar_of_zeros(folder: Path, runner: Runner) -> None:
    """2.4 GB of zeros as one picture, gzipped."""
    (folder / "in").mkdir()
    with tarfile.open(folder / "in/a.tar.gz", "w:gz", compresslevel=6) as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = 2_400_000_000
        archive.addfile(member, _Zeros())


class _Zeros(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def sparse_tar(folder: Path, runner: Runner) -> None:
    """A member that says it has 40 GiB, and has none of it."""
    (folder / "in").mkdir()
    with open(folder / "hole.jpg", "wb") as hole:
        hole.truncate(40 << 30)
    os.system(f"tar --sparse -C {folder} -cf {folder / 'in/a.tar'} hole.jpg")
    (folder / "hole.jpg").unlink()


def long_word(folder: Path, runner: Runner) -> None:
    """A caption of one word of 100,000 letters."""
    rng = np.random.default_rng(0)
    write(folder, "a.parquet", {"caption": ["".join(map(chr, rng.integers(97, 123, 100_000)))]})


def coco_that_is_deep(folder: Path, runner: Runner) -> None:
    """Lists in lists, 200,000 deep."""
    (folder / "in/annotations").mkdir(parents=True)
    (folder / "in/annotations/captions_val.json").write_text("[" * 200_000 + "]" * 200_000)


def _import_vectors(folder: Path, runner: Runner, *options: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(1500, 32)).astype(np.float32)
    np.save(folder / "images.npy", vectors)
    np.save(folder / "texts.npy", vectors + np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32) / 4)
    assert runner.run(["import", "vectors", "--images", "images.npy", *options, "--output", "e"], folder).code == 0


def index_without_captions(folder: Path, runner: Runner) -> None:
    """Embeddings of which nobody knows what will be asked."""
    _import_vectors(folder, runner)


def vectors_without_texts(folder: Path, runner: Runner) -> None:
    """Vectors of captions whose words are not known."""
    _import_vectors(folder, runner, "--texts", "texts.npy")
