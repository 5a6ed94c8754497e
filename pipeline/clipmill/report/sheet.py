"""A contact sheet: small pictures of many images in one, which takes a fifth of what they take alone."""

import base64
import io
from collections.abc import Iterable, Mapping

from PIL import Image

from clipmill.datasets.manifests import Embeddings
from clipmill.report.lookup import has_thumbnails, opened_picture, rows_at
from clipmill.report.schema.shown import SheetPart

SIDE = 48
"""Pixels of a picture's square on the sheet."""
MOST_BYTES = 2_000_000
"""Of the encoded sheet: a page stays below 5 MB with its other pictures, since Base64 adds a third."""
_ACROSS = 40
_QUALITIES = (75, 60, 45, 30, 15)
_PAPER = (128, 128, 128)


def sheet_of(embeddings: Embeddings, positions: Iterable[int]) -> SheetPart | None:
    """The sheet of these images' thumbnails; None where the dataset has none, or none of these."""
    if not has_thumbnails(embeddings):
        return None
    rows = rows_at(embeddings, "images", ["thumbnail"], set(positions))
    return make_sheet({position: row["thumbnail"] for position, row in sorted(rows.items())})


def make_sheet(thumbnails: Mapping[int, bytes | None]) -> SheetPart | None:
    """The sheet of encoded pictures by position, without those that cannot be read; None of none."""
    small = {position: one for position, data in thumbnails.items() if (one := _small(data)) is not None}
    if not small:
        return None
    across = min(_ACROSS, len(small))
    sheet = Image.new("RGB", (across * SIDE, -(-len(small) // across) * SIDE), _PAPER)
    for number, picture in enumerate(small.values()):
        left, top = number % across * SIDE, number // across * SIDE
        sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    encoded = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        sheet.save(stream, "JPEG", quality=quality, optimize=True)
        encoded = stream.getvalue()
        if len(encoded) <= MOST_BYTES:
            break
    uri = "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
    return SheetPart(side=SIDE, across=across, images=list(small), picture=uri)


def _small(thumbnail: bytes | None) -> Image.Image | None:
    picture = opened_picture(thumbnail)
    if picture is None:
        return None
    picture.thumbnail((SIDE, SIDE))
    return picture
