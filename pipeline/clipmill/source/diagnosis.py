"""What bytes are that hold no image which can be decoded: another kind of file, one that ends too early, a damaged one.

What does not begin as an image is never quoted: a path or an archive may bring any bytes, and rejects are published.
"""

import re

from clipmill.core.schemas import Reason
from clipmill.core.secrets import clean

BEGINNING_BYTES = 512
"""So many first bytes tell what a file is."""
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_NETPBM = re.compile(rb"P[1-6f]\s+(#[^\n]*\n\s*)*\d+\s")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""The sizes in bytes that the second header of a BMP can have: two letters alone begin many texts."""


class Rejected(Exception):
    """An image, a sound or a video that cannot be embedded: why, and what was seen. Ends as one row of the rejects."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = clean(detail)
        super().__init__(reason, self.detail)


def refuse_no_image(data: bytes) -> None:
    """Raises Rejected for bytes that do not begin as those of a known image format."""
    if not data:
        raise Rejected(Reason.EMPTY_IMAGE, "the image has no bytes")
    if signature(data) is None:
        raise Rejected(Reason.NOT_AN_IMAGE, _no_image(data))


def rejection(data: bytes, error: Exception) -> Rejected:
    """The reject of bytes that begin as an image, and that a decoder gave up on with this error."""
    problem = " ".join(str(error).split()) or type(error).__name__
    kind = signature(data) or "image"
    if "truncated" in problem.lower() or ends_early(data, kind):
        return Rejected(Reason.TRUNCATED_IMAGE, f"{kind} of {len(data)} bytes that ends too early")
    why = "" if kind == "PPM" else f": {problem[:200]}"  # it is text, which its decoder quotes
    return Rejected(Reason.UNREADABLE_IMAGE, f"{kind} that cannot be decoded{why}")


def signature(data: bytes) -> str | None:
    """The format that the first bytes announce; None where it is no known image format."""
    for beginning, kind in _BEGINNINGS.items():
        if data.startswith(beginning):
            return kind
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _NETPBM.match(data[:BEGINNING_BYTES]):
        return "PPM"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    brands = data[8 : min(len(data), int.from_bytes(data[:4], "big"), 128)]
    return "AVIF" if data[4:8] == b"ftyp" and (b"avif" in brands or b"avis" in brands) else None


def ends_early(data: bytes, kind: str) -> bool:
    """Whether the mark is missing that ends a file of this format, for formats that have one."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-4096:]
    if kind == "PNG":
        return b"IEND" not in data[-4096:]
    if kind == "WebP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    return kind == "GIF" and not data.rstrip(b"\0").endswith(b";")


def _no_image(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "a HEIC picture, which is not supported; convert it to JPEG"
    told = what_else(data, "an image", "a picture")
    if "<svg" in _text(data).lower() and not told.startswith("an HTML page"):
        return "an SVG drawing, which is not supported; convert it to PNG"
    return told


def what_else(data: bytes, wanted: str, answer: str) -> str:
    """What bytes are that do not begin as what was ``wanted``, in words; ``answer`` is what an address should have given."""
    beginning = _text(data)
    lower = beginning.lower()
    if lower.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in lower:
        return f"an HTML page, not {wanted}: the address it was fetched from did not answer with {answer}"
    if beginning and "\ufffd" not in beginning[:-1] and all(sign.isprintable() or sign.isspace() for sign in beginning):
        return f"text, not {wanted}"
    return f"bytes that begin as no supported {wanted.split()[-1]} format does"


def _text(data: bytes) -> str:
    return data[:BEGINNING_BYTES].decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
