"""Encoded bytes to uint8 RGB tensors, or the reason why not.

JPEG goes through torchvision, a third faster a core than Pillow and equal to it to the last bit; everything else, and
JPEG of unusual colours, through Pillow. The header is read before anything is decoded, so that a decompression bomb
costs nothing.

EXIF orientation is applied: pictures are embedded as people see them. open_clip itself ignores it, and so embeds
photographs from telephones lying on their side.
"""

import io
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import Rejected, refuse_no_image, rejection
from clipmill.source.image_files import load_image_bytes

__all__ = ["Rejected", "decode_image", "load_image_bytes", "thumbnail"]

Image.init()
FORMATS = tuple(
    name for name in ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"] if name in Image.OPEN
)
"""Not the other formats Pillow knows: some run outside programs, and some hold pictures that their header hides."""

Image.MAX_IMAGE_PIXELS = None  # the limit given to `decode_image` takes its place

_ORIENTATION = 0x0112
_THUMBNAIL_QUALITY = 85


def decode_image(data: bytes, max_pixels: int) -> torch.Tensor:
    """The image upright at full size: uint8 RGB of shape (3, height, width).

    In memory the three channels of a pixel lie together, as decoders write them: resizing is twice as fast so.
    Transparency is dropped as ``convert("RGB")`` does, 16-bit samples keep their upper 8 bits, animations give their
    first frame. Raises Rejected, and nothing else, for bytes that hold no whole image of at most ``max_pixels``.
    """
    refuse_no_image(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = Image.open(io.BytesIO(data), formats=FORMATS)
        except Exception as error:
            raise rejection(data, error) from None
        width, height = header.size
        if width * height > max_pixels:
            raise Rejected(
                Reason.TOO_MANY_PIXELS, f"{width}×{height} = {width * height} pixels, the limit is {max_pixels}"
            )
        try:
            return _decode(data, header)
        except MemoryError:
            raise
        except Exception as error:  # damaged files make decoders raise nearly anything
            raise rejection(data, error) from None


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


def _decode(data: bytes, header: Image.Image) -> torch.Tensor:
    if header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L"):
        try:
            pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
            return _upright(pixels, _orientation(header))
        except RuntimeError:
            pass  # Pillow reads some that torchvision does not, and says better what is wrong with the others
    header.load()
    return _upright(torch.from_numpy(_rgb(header)).permute(2, 0, 1), _orientation(header))


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(height, width, 3), with samples of more than 8 bits brought to 8."""
    image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64)
        wide = image.mode != "I" or samples.max(initial=0) > 255
        grey = np.clip(samples >> 8 if wide else samples, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        unit = values.max(initial=0) <= 1
        grey = np.clip(values * 255 if unit else values, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    return np.array(image.convert("RGB"))


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
