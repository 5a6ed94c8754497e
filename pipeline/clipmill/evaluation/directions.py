"""Directions of retrieval: from each part of a dataset to each other, asked with one and searched in the other."""

from typing import Literal

from clipmill.core.schemas import GalleryName

Direction = Literal["t2i", "i2t", "t2a", "a2t", "t2v", "v2t", "i2a", "a2i", "i2v", "v2i", "a2v", "v2a"]
PAIRS: tuple[tuple[GalleryName, GalleryName], ...] = (
    ("captions", "images"),
    ("captions", "audio"),
    ("captions", "videos"),
    ("images", "audio"),
    ("images", "videos"),
    ("audio", "videos"),
)
"""Captions and pictures come first: their report has more to say."""
_CALLED: dict[GalleryName, str] = {"captions": "text", "images": "image", "audio": "sound", "videos": "video"}
ITEMS: dict[GalleryName, str] = {"captions": "caption", "images": "image", "audio": "sound", "videos": "video"}
"""What one item of each part is called."""


def direction_of(queries: GalleryName, gallery: GalleryName) -> Direction:
    """The name of a direction, such as ``t2i``."""
    return _BY_SIDES[queries, gallery]


def sides_of(direction: Direction) -> tuple[GalleryName, GalleryName]:
    """The parts of its queries and of its gallery."""
    return _SIDES[direction]


_SIDES: dict[Direction, tuple[GalleryName, GalleryName]] = {
    "t2i": ("captions", "images"),
    "i2t": ("images", "captions"),
    "t2a": ("captions", "audio"),
    "a2t": ("audio", "captions"),
    "t2v": ("captions", "videos"),
    "v2t": ("videos", "captions"),
    "i2a": ("images", "audio"),
    "a2i": ("audio", "images"),
    "i2v": ("images", "videos"),
    "v2i": ("videos", "images"),
    "a2v": ("audio", "videos"),
    "v2a": ("videos", "audio"),
}
_BY_SIDES = {sides: direction for direction, sides in _SIDES.items()}
DIRECTIONS: dict[Direction, str] = {
    direction: f"{_CALLED[queries]} → {_CALLED[gallery]}" for direction, (queries, gallery) in _SIDES.items()
}
"""What they are called."""
