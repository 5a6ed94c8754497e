"""What files of video look like from outside: which container their beginning announces, and whether their end is missing."""

from __future__ import annotations

from clipmill.source.media import Stream, size_of

MP4, MATROSKA = "MP4", "Matroska"
DEMUXERS = {MP4: "mov", MATROSKA: "matroska"}
"""The one part of FFmpeg that may read each: others open further files and addresses that a file names."""
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def signature(data: bytes) -> str | None:
    """The container that the first bytes of a file announce (WebM is Matroska); None for one that is not read."""
    if data[:4] == _EBML:
        return MATROSKA
    return MP4 if data[4:8] in _BOXES and data[8:12] not in _STILL_BRANDS else None


def ends_early(stream: Stream, kind: str) -> bool:
    """Whether bytes are missing at the end, for files that tell how many there are."""
    return _boxes_end_early(stream) if kind == MP4 else _segment_ends_early(stream)


def _boxes_end_early(stream: Stream) -> bool:
    """An MP4 is a row of boxes, each with its size before it; without the box of the index nothing can be found in it."""
    size, at, index = size_of(stream), 0, False
    while at + 8 <= size:
        stream.seek(at)
        head = bytes(stream.read(16))
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - at  # up to the end
        index = index or head[4:8] == b"moov"
        if length < 8:
            return not index
        at += length
    return at > size or not index


def _segment_ends_early(stream: Stream) -> bool:
    """A Matroska file is a header and a segment; what was written to a pipe does not know its size."""
    size = size_of(stream)
    header = _element(stream, 0)
    if header is None:
        return True
    segment = _element(stream, header[2])
    return segment is None or (segment[0] == _SEGMENT and segment[2] > size)


def _element(stream: Stream, at: int) -> tuple[bytes, int, int] | None:
    """Name, where the content begins, and where it ends, 0 if that is not known; None where nothing is there."""
    stream.seek(at)
    head = bytes(stream.read(12))
    if len(head) < 5 or not head[4]:
        return None
    length = 9 - head[4].bit_length()
    digits = head[4 : 4 + length]
    value = int.from_bytes(digits, "big") & ((1 << 7 * length) - 1)
    start = at + 4 + length
    return head[:4], start, 0 if value == (1 << 7 * length) - 1 else start + value
