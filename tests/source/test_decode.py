"""Odd but valid images are decoded as people see them; broken bytes end as a reject with its reason, never otherwise."""

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipmill.core.schemas import Reason
from clipmill.source.decode import FORMATS, Rejected, decode_image, thumbnail
from clipmill.source.diagnosis import BEGINNING_BYTES, signature

LIMIT = 10_000_000
PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data/coco_mini/val2017"


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """A picture without symmetry, smooth enough that lossy formats keep it."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 128 + 0 * x]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def as_pillow_sees(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def decoded(data: bytes) -> np.ndarray:
    """(height, width, 3)."""
    pixels = decode_image(data, LIMIT)
    assert pixels.dtype == torch.uint8
    return pixels.permute(1, 2, 0).numpy()


def palette_with_transparency() -> Image.Image:
    picture = gradient().quantize(8)
    picture.info["transparency"] = bytes([0, 128, 255])
    return picture


@pytest.mark.parametrize(
    ("picture", "kind", "options"),
    [
        (gradient(), "JPEG", {}),
        (gradient(), "JPEG", {"progressive": True, "subsampling": 2}),
        (gradient().convert("L"), "JPEG", {}),
        (gradient().convert("CMYK"), "JPEG", {}),
        (gradient(), "PNG", {}),
        (gradient().convert("L"), "PNG", {}),
        (gradient().convert("LA"), "PNG", {}),
        (gradient().convert("1"), "PNG", {}),
        (palette_with_transparency(), "PNG", {}),
        (gradient(), "WEBP", {"lossless": True}),
        (gradient(), "BMP", {}),
        (gradient(), "TIFF", {}),
        (gradient().convert("CMYK"), "TIFF", {}),
        (gradient(), "PPM", {}),
        (gradient(), "JPEG2000", {}),
        (gradient().quantize(16), "GIF", {}),
        (gradient(1, 1), "JPEG", {}),
        (gradient(1, 1), "PNG", {}),
        (gradient(20_000, 20), "JPEG", {}),
        (gradient(20, 20_000), "PNG", {}),
    ],
)
def test_valid_images_are_what_pillow_makes_of_them(picture: Image.Image, kind: str, options: dict) -> None:
    if kind not in FORMATS:
        pytest.skip(f"this Pillow was built without {kind}")
    data = encoded(picture, kind, **options)
    assert np.abs(decoded(data).astype(int) - as_pillow_sees(data)).max() <= 1


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not there")
def test_photographs_are_what_pillow_makes_of_them() -> None:
    for path in sorted(PHOTOGRAPHS.iterdir())[:20]:
        data = path.read_bytes()
        assert np.abs(decoded(data).astype(int) - as_pillow_sees(data)).max() <= 2


def test_transparency_keeps_the_colours_below_it() -> None:
    picture = gradient().convert("RGBA")
    picture.putalpha(0)
    assert np.array_equal(decoded(encoded(picture, "PNG")), np.array(gradient()))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_8_bits(kind: str) -> None:
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = decoded(encoded(Image.fromarray(samples), kind))
    assert np.array_equal(pixels[:, :, 0], (samples // 256).astype(np.uint8))
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


@pytest.mark.parametrize("highest", [1.0, 255.0])
def test_floating_point_samples_fill_8_bits(highest: float) -> None:
    samples = np.linspace(0, highest, 256, dtype=np.float32).reshape(16, 16)
    samples[0, 0] = np.nan
    pixels = decoded(encoded(Image.fromarray(samples), "TIFF"))[:, :, 1].astype(int)
    assert np.abs(pixels.reshape(-1) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    data = encoded(red, kind, save_all=True, append_images=[blue, blue])
    assert decoded(data)[4, 4, 0] > 240
    assert decoded(data)[4, 4, 2] < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """A picture stored turned, with the EXIF tag that says so, comes out as it was."""
    upright = np.array(gradient(48, 32))
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    pixels = decoded(encoded(stored, kind, exif=exif, **options))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= 6


def test_exif_that_cannot_be_read_is_no_orientation() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decoded(data).shape == (32, 48, 3)


def reason_of(data: bytes, limit: int = LIMIT) -> tuple[Reason, str]:
    with pytest.raises(Rejected) as caught:
        decode_image(data, limit)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (b"", Reason.EMPTY_IMAGE, "no bytes"),
        (b"<!DOCTYPE html><html><body>404 Not Found", Reason.NOT_AN_IMAGE, "HTML page"),
        (b"\n  <html>", Reason.NOT_AN_IMAGE, "HTML page"),
        (b"<svg xmlns='x'></svg>", Reason.NOT_AN_IMAGE, "SVG"),
        (b"Access denied: sign in", Reason.NOT_AN_IMAGE, "text, not an image"),
        ("Zugriff verweigert für Gäste".encode(), Reason.NOT_AN_IMAGE, "text, not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", Reason.NOT_AN_IMAGE, "HEIC"),
        (b"%PDF-1.7 \x80\x81\x82", Reason.NOT_AN_IMAGE, "no supported image format"),
        (bytes(range(128, 255)), Reason.NOT_AN_IMAGE, "no supported image format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Reason.NOT_AN_IMAGE, "text"),
        (encoded(gradient(), "JPEG")[:4], Reason.TRUNCATED_IMAGE, "JPEG of 4 bytes"),
    ],
)
def test_what_is_not_an_image_is_said(data: bytes, reason: Reason, said: str) -> None:
    found, detail = reason_of(data)
    assert found == reason
    assert said in detail


@pytest.mark.parametrize(
    "data",
    [
        b"secret:x:0:0:root",
        b"\x7fELFsecret\x80\x81",
        b"P5 secret secret",
        b"P2 9 9 secret secret",
        b"P1 # secret\n9 secret",
        b"BMsecret" + bytes(40),
        b"GIF8secret",
        b"RIFF----secret",
        b"\0\0\0\x18ftypsecret",
        "schl\u00fcssel=secret".encode("utf-16"),
    ],
)
def test_contents_are_never_quoted(data: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        decode_image(data, LIMIT)
    assert "secret" not in caught.value.detail
    assert data[:4].hex(" ") not in caught.value.detail


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_decoded_is_known_by_its_beginning(kind: str) -> None:
    for picture in (gradient(), gradient().convert("L")):
        data = encoded(picture, kind)
        assert signature(data[:BEGINNING_BYTES]) == {"JPEG2000": "JPEG 2000", "WEBP": "WebP"}.get(kind, kind)


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_an_image_cut_short_is_a_reject_and_never_half_a_picture(kind: str, part: float) -> None:
    data = encoded(gradient(200, 150), kind)
    assert reason_of(data[: int(len(data) * part)])[0] == Reason.TRUNCATED_IMAGE


def test_a_damaged_image_is_unreadable() -> None:
    data = bytearray(encoded(gradient(), "PNG"))
    data[60] ^= 0xFF
    assert reason_of(bytes(data))[0] == Reason.UNREADABLE_IMAGE


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    assert reason_of(bomb) == (Reason.TOO_MANY_PIXELS, "60000×60000 = 3600000000 pixels, the limit is 10000000")
    assert reason_of(encoded(gradient(40, 25), "JPEG"), limit=999)[0] == Reason.TOO_MANY_PIXELS
    assert decode_image(encoded(gradient(40, 25), "JPEG"), 1000).shape == (3, 25, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damage_of_any_kind_gives_an_image_or_a_reject(kind: str) -> None:
    chance = random.Random(kind)
    whole = encoded(gradient(), kind)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        try:
            pixels = decode_image(bytes(data), LIMIT)
        except Rejected:
            continue
        assert pixels.shape[0] == 3


@pytest.mark.parametrize(
    ("size", "expected"), [((48, 32), (24, 16)), ((32, 48), (16, 24)), ((10, 5), (10, 5)), ((20_000, 20), (24, 1))]
)
def test_thumbnails_keep_the_shape_and_never_grow(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = torch.from_numpy(np.array(gradient(*size))).permute(2, 0, 1)
    small = Image.open(io.BytesIO(thumbnail(image, 24)))
    assert (small.format, small.size) == ("JPEG", expected)
    reference = np.array(gradient(*size).resize(expected, Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.array(small) - reference).mean() < 12
