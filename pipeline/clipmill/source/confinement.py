"""Which files a path in the input may lead to: those below the folder of the file that names it, and what the user adds.

Input comes from others. Without this bound a row of a table could have any file of this machine, or any object that its
credentials open, read, stored and published.
"""

import os
import posixpath
from collections.abc import Sequence
from functools import lru_cache

from clipmill.storage import Location

OPTION = "--allow-outside"


def refusal(path: str, place: Location, base: Location, allowed: Sequence[str]) -> str | None:
    """Why ``place``, which ``path`` names, may not be read; None where it may.

    ``base`` is the file that names the path; ``allowed`` are folders and s3:// prefixes besides its own. On a disk links
    are followed first. Whether there is a file is not asked, so that an answer tells nothing of files outside.
    """
    folder = posixpath.dirname(base.path)
    own = folder if base.is_local else f"s3://{folder}"
    if any(_is_below(place, root) for root in (own, *allowed)):
        return None
    real = real_place(place)
    return f"{path} lies outside of {own or '/'}, where it is named; if it is meant, {_advice(real)}"


def real_place(place: Location) -> Location:
    """Where a place on a disk is when all links are followed; on S3 there are none."""
    if not place.is_local:
        return place
    real = os.path.realpath(place.path)
    return Location(place.filesystem, real, place.uri)


def _advice(place: Location) -> str:
    parent = posixpath.dirname(place.path)
    return f"add {OPTION} {parent or '/'}" if place.is_local else f"add {OPTION} s3://{parent}"


def _is_below(place: Location, root: str) -> bool:
    if root.startswith("s3://") == place.is_local:
        return False
    if place.is_local:
        return _starts_with(os.path.realpath(place.path), _real_folder(root))
    return _starts_with(posixpath.normpath(place.path), root.removeprefix("s3://").rstrip("/"))


@lru_cache(maxsize=1024)
def _real_folder(root: str) -> str:
    return os.path.realpath(root or "/")


def _starts_with(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root.rstrip('/')}/")
