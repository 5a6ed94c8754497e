"""A folder of pictures in batches, so that words are written about those alone that are new or were changed.

A batch is the listing of pictures that were new together. It never changes, so the words about it are kept like those about a
file. Where some of its pictures have gone or were changed, those that are left become a batch of their own, which takes the
words about them along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core.schemas import LISTING
from clipmill.source.input_file import InputFile
from clipmill.source.listed import of_listing

MOST = 10_000
"""Pictures of a batch, whose captions are filtered again when one of them goes."""
Picture = tuple[str, int, str]
"""Path, size and version."""


@dataclass(frozen=True)
class Batch:
    """Pictures as a source file; the larger batch that has the words about them, if there is one, and the rows, int64, that
    they are there."""

    file: InputFile
    larger: InputFile | None = None
    rows: NDArray[np.int64] | None = None


def batches(folder: InputFile, known: Sequence[pa.Table]) -> list[Batch]:
    """The pictures of a listed ``folder``, each in one batch: of those that are ``known``, by their listings, which are whole;
    else of what is left of one; else in a new one."""
    assert folder.listing is not None
    left = dict.fromkeys(pictures_of(folder.listing))
    found: list[Batch] = []
    some: list[pa.Table] = []
    for listing in known:
        pictures = pictures_of(listing)
        if pictures and all(picture in left for picture in pictures):
            found.append(Batch(listed(folder, listing)))
            _take(pictures, left)
        else:
            some.append(listing)
    for listing in some:
        pictures = pictures_of(listing)
        rows = [at for at, picture in enumerate(pictures) if picture in left]
        if rows:
            there = [pictures[at] for at in rows]
            kept = listed(folder, listing_of(there))
            found.append(Batch(kept, listed(folder, listing), np.array(rows, np.int64)))
            _take(there, left)
    new = list(left)
    found += [Batch(listed(folder, listing_of(new[at : at + MOST]))) for at in range(0, len(new), MOST)]
    return found


def _take(pictures: Sequence[Picture], left: dict[Picture, None]) -> None:
    for picture in pictures:
        del left[picture]


def pictures_of(listing: pa.Table) -> list[Picture]:
    """What a listing lists."""
    return list(zip(*(listing.column(name).to_pylist() for name in LISTING.names[1:]), strict=True))


def listing_of(pictures: Sequence[Picture]) -> pa.Table:
    """The listing of these."""
    columns = [list(column) for column in zip(*pictures, strict=True)]
    return pa.table([np.arange(len(pictures)), *columns], schema=LISTING)


def listed(folder: InputFile, listing: pa.Table) -> InputFile:
    """The pictures of a listing as a source file, with what the folder says of them now; of those that it has no longer only
    their path is known."""
    assert folder.listed is not None
    places = {path: at for at, path in enumerate(folder.listed.column("id").to_pylist())}
    paths = listing.column("path").to_pylist()
    rows = folder.listed.take(pa.array([places.get(path) for path in paths], pa.int64()))
    for name in rows.column_names:
        if name not in ("caption", "label"):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, name, pa.array(paths, pa.string()))
    return of_listing(folder.path, rows, listing)
