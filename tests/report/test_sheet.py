"""The contact sheet: each picture in its own square, and never more bytes than a page can carry."""

import base64
import io

import numpy as np
from PIL import Image

from clipmill.report.sheet import MOST_BYTES, SIDE, make_sheet


def encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


def test_each_picture_is_in_its_square() -> None:
    colours = {number * 3: (number * 5 % 256, 255 - number * 4 % 256, number * 11 % 256) for number in range(50)}
    thumbnails = {position: encoded(Image.new("RGB", (90, 60), colour)) for position, colour in colours.items()}
    thumbnails |= {1: b"no picture", 2: None}
    made = make_sheet(thumbnails)
    assert made is not None
    assert made.images == list(colours)
    pixels = np.asarray(decoded(made.picture).convert("RGB")).astype(int)
    for number, colour in enumerate(colours.values()):
        top, left = number // made.across * SIDE, number % made.across * SIDE
        assert np.abs(pixels[top + SIDE // 2, left + SIDE // 2] - colour).max() <= 8


def test_noise_is_stored_worse_and_not_larger() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    pictures = [encoded(Image.fromarray(one)) for one in noise]
    made = make_sheet({position: pictures[position % 20] for position in range(2720)})
    assert made is not None
    assert len(made.images) == 2720
    assert len(base64.b64decode(made.picture.partition(",")[2])) <= MOST_BYTES


def test_without_pictures_there_is_none() -> None:
    assert make_sheet({1: None, 2: b"x"}) is None
