"""The vectors of one side of a dataset, addressed by position, with the row each belongs to."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmill.datasets.manifests import Embeddings, vectors_of

IN_MEMORY = 512 << 20
"""A part of more bytes than this goes to a memory-mapped scratch file, so that memory does not grow with it."""


@dataclass(frozen=True)
class Vectors:
    """``rows`` int64 (n,) and ``values`` float16 (n, d), perhaps a memory map: read by blocks, never all at once."""

    rows: NDArray[np.int64]
    values: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dimension(self) -> int:
        """Components of each vector."""
        return int(self.values.shape[1])


def read_vectors(embeddings: Embeddings, part: str, scratch: Path) -> Vectors:
    """All vectors of a part (images or captions) in the dataset's order; ``scratch`` takes what is too large for memory."""
    count, dimension = embeddings.count(part), embeddings.manifest.dimension
    rows = np.empty(count, np.int64)
    values: NDArray[np.float16]
    if count * dimension * 2 > IN_MEMORY:
        values = np.lib.format.open_memmap(scratch / f"{part}.npy", "w+", np.float16, (count, dimension))
    else:
        values = np.empty((count, dimension), np.float16)
    start = 0
    for batch in embeddings.batches(part, ["row", "embedding"]):
        stop = start + batch.num_rows
        rows[start:stop] = batch.column("row").to_numpy()
        values[start:stop] = vectors_of(batch.column("embedding"))
        let_go(values)
        start = stop
    return Vectors(rows, values)


def let_go(values: NDArray[np.float16]) -> None:
    """Drops the pages of a memory-mapped file from this process; they stay in the file and in the system's page cache.

    Called after each block, it keeps memory constant however large the file is. Other arrays are left alone.
    """
    mapped = getattr(values, "_mmap", None)
    if mapped is not None and getattr(values, "mode", "c") != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` that cover ``count`` items."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
