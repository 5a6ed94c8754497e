"""What every importer gives: samples, one per image, and the columns that come with them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.confinement import refusal
from clipmill.source.names import CAPTION_NAMES, IMAGE_NAMES, PATH_NAMES
from clipmill.storage import Location

OWN_COLUMNS = frozenset({"id", "image", "caption"})


@dataclass(frozen=True)
class Sample:
    """One image with its captions. ``image`` is its bytes, the place to read them from, or None where there are none.

    ``path`` is the image's name in the source. ``values`` belong to the collection's columns, in their order.
    """

    id: str
    path: str
    image: bytes | Location | None
    captions: tuple[str | None, ...]
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Collection:
    """A whole source. ``samples`` can be gone through once; ``total`` is None where it is not known beforehand."""

    columns: tuple[pa.Field, ...]
    samples: Iterable[Sample]
    total: int | None


def paths_below(source: Location) -> list[str]:
    """Files below a folder as `storage.list_input` finds them, relative to it. Raises UserError when there are none."""
    info = source.filesystem.get_file_info(source.path)
    if info.is_file:
        raise UserError(f"{source} is a file, but a folder is needed here")
    paths = [info.path[len(source.path) :].lstrip("/") for info in storage.list_input(source)]
    if not paths:
        raise UserError(f"{source}: there is no such folder, or it is empty")
    return paths


def refuse_outside(place: Location, source: Location, settings: ImportSettings) -> Location:
    """The same file, found below ``source``. Raises UserError where it is a link that leads out of it."""
    refused = refusal(place.uri, place, source / ".", settings.allow_outside or ())
    if refused is not None:
        raise UserError(refused)
    return place


def column_name(name: str) -> str:
    """A name under which a source's own column travels without being taken for image, caption or id."""
    lower = name.lower()
    taken = lower in OWN_COLUMNS | IMAGE_NAMES | CAPTION_NAMES or any(lower in names for names in PATH_NAMES)
    return f"source_{name}" if taken else name


def chosen_splits(found: Iterable[str], wanted: str | None, source: Location) -> list[str]:
    """All splits, or the one wanted. Raises UserError, naming those there are, when it is not among them."""
    splits = sorted(found)
    if wanted is None:
        return splits
    if wanted not in splits:
        raise UserError(f"--split {wanted}: {source} has no such split; there are {', '.join(splits) or 'none'}")
    return [wanted]
