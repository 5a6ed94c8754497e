"""Which queries of two reports are the same: by source path and row number, or by the user's own id."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.datasets.row_hash import hash_path, hash_rows
from clipmill.report.document import KeptQueries

Match = Literal["path", "id"]
_NONE = -1


@dataclass(frozen=True)
class Pairs:
    """Queries that two tables share: their places in each, int64 (n,), and the number of the image each belongs to.

    ``of_first`` and ``of_second`` count the queries that could have been shared. A key that is there twice in one table
    names no query: such are left out and counted in ``ambiguous``.
    """

    at_first: NDArray[np.int64]
    at_second: NDArray[np.int64]
    images: NDArray[np.int64]
    of_first: int
    of_second: int
    ambiguous: int

    def __len__(self) -> int:
        return len(self.at_first)

    @property
    def share(self) -> float:
        """Shared queries, as a share of those of the larger side."""
        return len(self) / max(1, self.of_first, self.of_second)


def pair(first: pa.Table, second: pa.Table, kept: tuple[KeptQueries, KeptQueries], match: Match) -> Pairs:
    """Pairs the rows of one task in two files of queries (`clipmill.report.queries.QUERIES`), in whatever order.

    Where one of them keeps a sample, queries outside the smaller sample do not count as missing: by path, both samples
    follow from the same hash.
    """
    if match == "path":
        below = min(part.hash_below for part in kept)
        chosen = [np.flatnonzero(_hashes(table) < below) for table in (first, second)]
    else:
        chosen = [np.arange(len(table)) for table in (first, second)]
    tables = [table.take(pa.array(rows)) for table, rows in zip((first, second), chosen, strict=True)]
    images = _images(tables[0], tables[1], match)
    queries = np.unique(images, return_inverse=True)[1] << 32
    queries += np.concatenate([_caption_indices(table) for table in tables]) + 1
    queries[images == _NONE] = _NONE
    split = len(tables[0])
    one, one_at, one_twice = _unique(queries[:split])
    other, other_at, other_twice = _unique(queries[split:])
    _, at_one, at_other = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    at_first, at_second = one_at[at_one], other_at[at_other]
    return Pairs(
        at_first=chosen[0][at_first],
        at_second=chosen[1][at_second],
        images=images[:split][at_first],
        of_first=split,
        of_second=len(tables[1]),
        ambiguous=one_twice + other_twice,
    )


def _images(first: pa.Table, second: pa.Table, match: Match) -> NDArray[np.int64]:
    """A number for the image of each row of both tables, the same where it is the same; −1 where there is no key."""
    column = "path" if match == "path" else "id"
    both = pa.chunked_array([*first.column(column).chunks, *second.column(column).chunks], pa.string())
    encoded = both.combine_chunks().dictionary_encode()
    codes = pa.compute.fill_null(encoded.indices, _NONE).to_numpy(zero_copy_only=False).astype(np.int64)
    if match == "id":
        result: NDArray[np.int64] = codes
        return result
    numbers = np.concatenate([table.column("row_number").to_numpy() for table in (first, second)])
    return np.where(codes == _NONE, _NONE, (codes << 32) | numbers)


def _caption_indices(table: pa.Table) -> NDArray[np.int64]:
    indices = pa.compute.fill_null(table.column("caption_index"), _NONE)
    result: NDArray[np.int64] = indices.to_numpy().astype(np.int64)
    return result


def _unique(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Keys that occur once, where they are, and how many rows have a key that others have too."""
    found, at, counts = np.unique(keys, return_index=True, return_counts=True)
    there = found != _NONE
    once = (counts == 1) & there
    return found[once], at[once], int(counts[(counts > 1) & there].sum())


def _hashes(table: pa.Table) -> NDArray[np.int64]:
    paths = table.column("path").combine_chunks().dictionary_encode()
    if isinstance(paths, pa.ChunkedArray):
        paths = paths.combine_chunks()
    names = np.array([hash_path(path) for path in paths.dictionary.to_pylist()] + [hash_path(None)], np.uint64)
    codes = pa.compute.fill_null(paths.indices, len(names) - 1).to_numpy(zero_copy_only=False)
    return hash_rows(names[codes], table.column("row_number").to_numpy()).astype(np.int64)
