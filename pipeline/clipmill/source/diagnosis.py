"""What bytes are that could not be decoded: another kind of file, an image that ends too early, or a damaged one."""

from clipmill.core.schemas import Reason
from clipmill.source.image_files import Rejected

_TEXT_SHOWN = 60
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"P4": "PPM",
    b"P5": "PPM",
    b"P6": "PPM",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}


def rejection(data: bytes, error: Exception, *, quote: bool) -> Rejected:
    """The reject of bytes that a decoder gave up on with this error.

    ``quote`` allows the detail to show what the bytes say, and what the decoder says of them.
    """
    problem = " ".join(str(error).split()) or type(error).__name__
    kind = _signature(data)
    if kind is None:
        return Rejected(Reason.NOT_AN_IMAGE, _what_else(data, quote))
    if "truncated" in problem.lower() or _ends_early(data, kind):
        return Rejected(Reason.TRUNCATED_IMAGE, f"{kind} of {len(data)} bytes that ends too early")
    why = f": {problem[:200]}" if quote else ""
    return Rejected(Reason.UNREADABLE_IMAGE, f"{kind} that cannot be decoded{why}")


def _signature(data: bytes) -> str | None:
    """The format that the first bytes announce."""
    for beginning, kind in _BEGINNINGS.items():
        if data.startswith(beginning):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return "AVIF" if data[4:12] in (b"ftypavif", b"ftypavis") else None


def _ends_early(data: bytes, kind: str) -> bool:
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


def _what_else(data: bytes, quote: bool) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "a HEIC picture, which is not supported; convert it to JPEG"
    beginning = data[:512].decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    lower = beginning.lower()
    if lower.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in lower:
        return "an HTML page, not an image: the address it was fetched from did not answer with a picture"
    if "<svg" in lower:
        return "an SVG drawing, which is not supported; convert it to PNG"
    if beginning and "\ufffd" not in beginning[:-1] and all(sign.isprintable() or sign.isspace() for sign in beginning):
        return "text, not an image" + (f": {' '.join(beginning.split())[:_TEXT_SHOWN]!r}" if quote else "")
    shown = f"that begin with {data[:8].hex(' ')}, which" if quote else "that begin as"
    return f"{len(data)} bytes {shown} no supported image format does"
