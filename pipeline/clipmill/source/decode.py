"""Encoded bytes to uint8 RGB tensors, or the reason why not.

JPEG goes through torchvision, a third faster a core than Pillow and equal to it to the last bit; everything else, and
JPEG of unusual colours, through Pillow. The header is read before anything is decoded, so that a decompression bomb
costs nothing.

EXIF orientation is applied: pictures are embedded as people see them. open_clip itself ignores it, and so embeds
photographs from telephones lying on their side.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torchvision.io import ImageReadMode, decode_jpeg

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import Rejected, ends_early, refuse_no_image, rejection
from clipmill.source.image_files import load_image_bytes

__all__ = ["PlainJpeg", "Rejected", "decode_image", "load_image_bytes", "plain_jpeg", "thumbnail"]

Image.init()
FORMATS = tuple(
    name for name in ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"] if name in Image.OPEN
)
"""Not the other formats Pillow knows: some run outside programs, and some hold pictures that their header hides."""

Image.MAX_IMAGE_PIXELS = None  # the limit given to `decode_image` takes its place

_ORIENTATION = 0x0112
_THUMBNAIL_QUALITY = 85
_STRIP_PIXELS = 1 << 20
_MOST_READS = 200_000
"""By Pillow of one picture: a third of a second. Three take a part of a PNG, which has some kilobytes at least."""
MAX_DECODED_BYTES = 512 << 20
"""What decoding one picture may take, unless the limit of pixels asks for more: 179 million pixels of a baseline JPEG."""
_DECODER_BYTES = {"WEBP": 9, "JPEG2000": 13, "AVIF": 4, "TIFF": 4, "JPEG": 8, "MPO": 8}
"""Bytes a pixel that decoders hold besides the picture, as measured; the others 1 at most."""


def decode_image(data: bytes, max_pixels: int) -> torch.Tensor:
    """The image upright at full size: uint8 RGB of shape (3, height, width).

    In memory the three channels of a pixel lie together, as decoders write them: resizing is twice as fast so.
    Transparency is dropped as ``convert("RGB")`` does, 16-bit samples keep their upper 8 bits, animations give their
    first frame. Raises Rejected, and nothing else, for bytes that hold no whole image of at most ``max_pixels``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = _open(data, max_pixels)
        try:
            return _decode(data, header)
        except MemoryError:
            raise
        except Exception as error:  # damaged files make decoders raise nearly anything
            raise rejection(data, error) from None


def pixels_of(picture: Image.Image) -> torch.Tensor:
    """A picture that others have opened, as `decode_image` gives it. Raises what its decoder raises."""
    picture = picture.copy()  # what is looked up in it is taken out
    return _upright(torch.from_numpy(_rgb(picture)).permute(2, 0, 1), _orientation(picture))


@dataclass(frozen=True)
class PlainJpeg:
    """What the header of a JPEG says that any decoder can take: its pixels, and how to turn what is decoded."""

    pixels: int
    orientation: int

    def upright(self, decoded: torch.Tensor) -> torch.Tensor:
        """The picture (3, height, width) as people see it."""
        return _upright(decoded, self.orientation)


def plain_jpeg(data: bytes, max_pixels: int) -> PlainJpeg | None:
    """What is known of a whole JPEG of usual colours before it is decoded; None for everything else. Raises Rejected as
    `decode_image` does for what its header tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = _open(data, max_pixels)
        if not _is_plain_jpeg(header) or ends_early(data, "JPEG"):
            return None
        return PlainJpeg(header.size[0] * header.size[1], _orientation(header))


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """A picture of which only the header was read. Raises Rejected where that tells that it is not to be decoded."""
    refuse_no_image(data)
    try:
        header = Image.open(_Counted(data), formats=FORMATS)
        width, height = header.size
    except Exception as error:
        raise rejection(data, error) from None
    if width * height > max_pixels:
        raise Rejected(Reason.TOO_MANY_PIXELS, f"{width}×{height} = {width * height} pixels, the limit is {max_pixels}")
    _refuse_bytes(header, max_pixels)
    return header


def thumbnail(image: torch.Tensor, longer_side: int) -> bytes:
    """A JPEG of a uint8 RGB (3, height, width) image, its longer side at most this many pixels."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    shrink = longer_side / max(picture.size)
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_THUMBNAIL_QUALITY)
    return stream.getvalue()


class _Counted(io.BytesIO):
    """The bytes of a picture, which may be asked for so many times: Pillow reads headers part by part and what is between
    them byte by byte, so that some megabytes of either would keep it busy for a minute."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {_MOST_READS} parts")
        return super().read(size)


def _refuse_bytes(header: Image.Image, max_pixels: int) -> None:
    """Raises Rejected for a picture of few enough pixels that takes too much memory all the same."""
    width, height = header.size
    pixels = max(width * height, _tile_pixels(header))
    size = pixels * _bytes_a_pixel(header)
    limit = max(MAX_DECODED_BYTES, 3 * max_pixels)
    if size > limit:
        raise Rejected(
            Reason.TOO_MANY_PIXELS,
            f"{width}×{height} pixels of {header.format} ({header.mode}) take {size} bytes to decode, the limit is {limit}; "
            "save it as baseline JPEG, or raise --max-image-pixels, which is a third of the limit",
        )


def _bytes_a_pixel(header: Image.Image) -> int:
    """What decoding takes at most: the decoder's own, Pillow's picture, ours of three bytes, and that turned upright, where
    EXIF is known before anything is decoded."""
    if _is_plain_jpeg(header):
        return 3 + (3 if _orientation(header) != 1 else 0) + (4 if header.info.get("progressive") else 0)
    samples = 1 if header.mode in ("1", "L", "P") else 4
    return _DECODER_BYTES.get(str(header.format), 1) + samples + 3


def _tile_pixels(header: Image.Image) -> int:
    """Of a TIFF in tiles, the pixels of one tile, which may be larger than the picture: a tile is decoded whole."""
    tags = getattr(header, "tag_v2", {})
    try:
        return int(tags.get(322, 0)) * int(tags.get(323, 0))
    except (TypeError, ValueError):
        return 0


def _is_plain_jpeg(header: Image.Image) -> bool:
    return header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L")


def _decode(data: bytes, header: ImageFile.ImageFile) -> torch.Tensor:
    if _is_plain_jpeg(header):
        try:
            pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
            return _upright(pixels, _orientation(header))
        except RuntimeError:
            pass  # Pillow reads some that torchvision does not, and says better what is wrong with the others
    header.decodermaxblock = max(
        header.decodermaxblock, len(data)
    )  # in pieces, what it cannot use is copied again each time
    header.load()
    return _upright(torch.from_numpy(_rgb(header)).permute(2, 0, 1), _orientation(header))


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(height, width, 3), with samples of more than 8 bits brought to 8; converted strip by strip, so that what stands
    between takes no memory to speak of."""
    image.info.pop("transparency", None)
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    boxes = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    to_8_bits = _to_8_bits(image, boxes)
    result = np.empty((height, width, 3), np.uint8)
    for box in boxes:
        result[box[1] : box[3]] = to_8_bits(image.crop(box))
    return result


def _to_8_bits(
    image: Image.Image, boxes: list[tuple[int, int, int, int]]
) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """How a strip of this image becomes (rows, width, 3), or (rows, width, 1) where it is grey."""
    if image.mode.startswith("I"):
        wide = image.mode != "I" or max(np.asarray(image.crop(box)).max(initial=0) for box in boxes) > 255
        return lambda strip: _grey(np.asarray(strip).astype(np.int64) >> (8 if wide else 0))
    if image.mode == "F":
        unit = max(np.nan_to_num(np.asarray(image.crop(box))).max(initial=0) for box in boxes) <= 1
        return lambda strip: _grey(np.nan_to_num(np.asarray(strip)) * (255 if unit else 1))
    if image.mode in ("RGBa", "La"):
        return lambda strip: np.asarray(strip.convert(image.mode.upper()).convert("RGB"))
    return lambda strip: np.asarray(strip.convert("RGB"))


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(values, 0, 255), np.uint8)[:, :, None]


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF has it; 1, upright, when there is none that can be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is free text to many programs
        return 1


def _upright(pixels: torch.Tensor, orientation: int) -> torch.Tensor:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flipped = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation)
    return pixels.flip(flipped) if flipped else pixels
