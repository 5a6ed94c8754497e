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
    names no query: such are left out and counted in ``ambiguous``. Where queries were drawn at several rates, ``weights`` (n,)
    are how many of the dataset each pair stands for. ``drawn`` says whether the queries of either table are a sample.
    """

    at_first: NDArray[np.int64]
    at_second: NDArray[np.int64]
    images: NDArray[np.int64]
    of_first: int
    of_second: int
    ambiguous: int
    weights: NDArray[np.float64] | None = None
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.at_first)

    @property
    def share(self) -> float:
        """Shared queries, as a share of those of the larger side; of the smaller one where queries were drawn: the other may
        have drawn more, or all."""
        sides = (self.of_first, self.of_second)
        return len(self) / max(1, min(sides) if self.drawn else max(sides))


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
    of_both = chosen[0][at_first], chosen[1][at_second]
    return Pairs(
        at_first=of_both[0],
        at_second=of_both[1],
        images=images[:split][at_first],
        of_first=split,
        of_second=len(tables[1]),
        ambiguous=one_twice + other_twice,
        weights=_weights_of_pairs((first.take(of_both[0]), second.take(of_both[1])), kept),
        drawn=any(part.of is not None for part in kept),
    )


def _weights_of_pairs(
    paired: tuple[pa.Table, pa.Table], kept: tuple[KeptQueries, KeptQueries]
) -> NDArray[np.float64] | None:
    """How many queries of the dataset each pair stands for: None where all stand for equally many.

    Samples of one seed draw in the same order, so the smaller of two is a part of the larger; others are independent.
    """
    one, other = (_weights(table, part) for table, part in zip(paired, kept, strict=True))
    both = np.maximum(one, other) if kept[0].seed == kept[1].seed or None in (kept[0].of, kept[1].of) else one * other
    return None if not len(both) or np.ptp(both) == 0 else both


def _weights(table: pa.Table, kept: KeptQueries) -> NDArray[np.float64]:
    alike = (kept.of or kept.asked) / max(1, kept.asked)
    result: NDArray[np.float64] = pa.compute.fill_null(table.column("weight"), alike).to_numpy()
    return result


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
