"""What files of sound look like from outside: which format their beginning announces, and whether their end is missing."""

from __future__ import annotations

from clipmill.source.media import Stream, beginning_of, size_of

_OGG_TAIL = 1 << 17
"""The last page of an Ogg file lies within so many bytes of its end: a page has 65,307 at most."""
_OGG_LAST = 4
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0xFFFFFFFF - 36)
"""Of what a program wrote to a pipe, when it could not know how much would come."""


def signature(data: bytes) -> str | None:
    """The format that the first bytes of a file announce; None where it is no format that is decoded."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "Ogg"
    return "MP3" if data[:3] == b"ID3" or _is_mpeg_frame(data) else None


def _is_mpeg_frame(data: bytes) -> bool:
    """Eleven bits that are set, then a version, layer, bit rate and sample rate that exist."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return False
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    return version != 1 and layer != 0 and data[2] >> 4 != 15 and data[2] >> 2 & 3 != 3


def ends_early(stream: Stream, kind: str) -> bool:
    """Whether bytes are missing at the end, for formats that tell."""
    if kind == "WAV":
        return _wav_ends_early(stream)
    return kind == "Ogg" and _ogg_ends_early(stream)


def _wav_ends_early(stream: Stream) -> bool:
    """Chunks follow each other up to that of the samples, each with its size before it."""
    size, at = size_of(stream), 12
    if beginning_of(stream, 4) == b"RF64":
        return False  # its sizes stand elsewhere
    while at + 8 <= size:
        stream.seek(at)
        head = bytes(stream.read(8))
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return length not in _UNKNOWN_SIZES and at + 8 + length > size
        at += 8 + length + length % 2
    return True


def _ogg_ends_early(stream: Stream) -> bool:
    """The last page carries a mark."""
    size = size_of(stream)
    stream.seek(max(0, size - _OGG_TAIL))
    tail = bytes(stream.read(_OGG_TAIL))
    at = tail.rfind(b"OggS")
    return at < 0 or at + 6 > len(tail) or not tail[at + 5] & _OGG_LAST
