"""What pictures, sounds and videos have in common: they lie in a column or a file, and fail in the same ways."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, Protocol

from clipmill.core.errors import UserError
from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import Rejected, what_else

MediumName = Literal["image", "audio", "video"]
CLIPS: tuple[MediumName, ...] = ("audio", "video")
"""Those that take time."""


class Stream(Protocol):
    """An open file that can be read anywhere: `io.BytesIO`, a Python file, or Arrow's."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Goes to a place in the file."""
        ...

    def tell(self) -> int:
        """Where the next byte is read."""
        ...


@dataclass(frozen=True)
class Medium:
    """One of the three: its column and kind of rejects, the part that it becomes, what it is called, and its reasons."""

    name: MediumName
    part: str
    noun: str
    missing: Reason
    empty: Reason
    not_found: Reason
    not_one: Reason
    truncated: Reason
    unreadable: Reason
    most_bytes: int
    """Of a file: a path that leads to an archive or a disk image is not read."""

    @property
    def article(self) -> str:
        """The noun with its article."""
        return f"an {self.noun}" if self.noun[0] in "aeiou" else f"a {self.noun}"


IMAGE = Medium(
    "image",
    "images",
    "image",
    Reason.MISSING_IMAGE,
    Reason.EMPTY_IMAGE,
    Reason.IMAGE_NOT_FOUND,
    Reason.NOT_AN_IMAGE,
    Reason.TRUNCATED_IMAGE,
    Reason.UNREADABLE_IMAGE,
    128 << 20,
)
AUDIO = Medium(
    "audio",
    "audio",
    "sound",
    Reason.MISSING_AUDIO,
    Reason.EMPTY_AUDIO,
    Reason.AUDIO_NOT_FOUND,
    Reason.NOT_AUDIO,
    Reason.TRUNCATED_AUDIO,
    Reason.UNREADABLE_AUDIO,
    4 << 30,
)
VIDEO = Medium(
    "video",
    "videos",
    "video",
    Reason.MISSING_VIDEO,
    Reason.EMPTY_VIDEO,
    Reason.VIDEO_NOT_FOUND,
    Reason.NOT_A_VIDEO,
    Reason.TRUNCATED_VIDEO,
    Reason.UNREADABLE_VIDEO,
    64 << 30,
)
MEDIA: dict[MediumName, Medium] = {medium.name: medium for medium in (IMAGE, AUDIO, VIDEO)}
_NEEDED: dict[MediumName, tuple[str, ...]] = {"image": (), "audio": ("soundfile", "soxr"), "video": ("av",)}


def refuse_missing_packages(name: MediumName) -> None:
    """Raises UserError where what decodes this medium is not installed."""
    for package in _NEEDED[name]:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{name} is decoded by the package {package}, which is not installed: pip install 'clipmill[{name}]'"
            )


def beginning_of(stream: Stream, size: int) -> bytes:
    """The first bytes of a file."""
    stream.seek(0)
    return bytes(stream.read(size))


def size_of(stream: Stream) -> int:
    """Bytes of a file."""
    stream.seek(0, 2)
    return int(stream.tell())


def refuse_other(medium: Medium, data: bytes, known: str | None) -> None:
    """Raises Rejected where the first bytes of a file, ``data``, announce no format that is ``known``."""
    if not data:
        raise Rejected(medium.empty, f"the {medium.noun} has no bytes")
    if known is None:
        raise Rejected(medium.not_one, what_else(data, medium.article, medium.article))


def unreadable(medium: Medium, kind: str, error: Exception) -> Rejected:
    """The reject of a file that begins as this kind of file and that a decoder gave up on."""
    problem = " ".join(str(error).split()) or type(error).__name__
    return Rejected(medium.unreadable, f"{kind} that cannot be decoded: {problem[:200]}")
