"""Exact scores of given rows from their stored vectors."""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.index.stored import Coding

_BLOCK_VECTORS = 512
"""Vectors gathered at a time: few enough that their float32 copies stay in the processor's cache."""


@dataclass(frozen=True)
class StoredVectors:
    """The ``vectors-*.npy`` of an index, mapped or in memory, none where it was built without; ``starts`` are their first
    positions, and n at the end, whether they are there or not."""

    shards: Sequence[NDArray[Any]]
    starts: NDArray[np.int64]
    coding: Coding

    @property
    def dimension(self) -> int:
        return self.coding.dimension

    @property
    def are_there(self) -> bool:
        """Whether any are stored."""
        return len(self.shards) > 0

    @property
    def are_exact(self) -> bool:
        """Whether they are stored as they were embedded."""
        return self.are_there and self.coding.ranges is None

    def evict(self) -> bool:
        """Drops the vectors from memory, so that who asks next reads them from disk. False where the system cannot."""
        files = [Path(shard.filename) for shard in self.shards if isinstance(shard, np.memmap) and shard.filename]
        if not files or len(files) < len(self.shards) or not hasattr(os, "posix_fadvise"):
            return False
        for shard, file in zip(self.shards, files, strict=True):
            shard._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)  # what was not written yet stays in memory
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        return True

    def blocks(self, rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The position of the first of at most ``rows`` stored vectors, and these, one block after the other."""
        for start, shard in zip(self.starts[:-1].tolist(), self.shards, strict=True):
            for first in range(0, len(shard), rows):
                yield start + first, shard[first : first + rows]

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, d) of ``positions`` (n,). Raises UserError where none are stored."""
        return self.coding.decode(self._stored(positions))

    def _stored(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        if not self.are_there:
            raise UserError(
                "the index was built with --rerank-vectors none and holds no vectors: search it by text, picture or vector, "
                "or build it with --rerank-vectors int8 or float16"
            )
        if len(self.shards) == 1:
            return np.take(self.shards[0], positions, axis=0)
        gathered = np.empty((len(positions), self.dimension), self.coding.dtype)
        shards = np.searchsorted(self.starts, positions, side="right") - 1
        for shard in np.unique(shards):
            inside = shards == shard
            gathered[inside] = np.take(self.shards[shard], positions[inside] - self.starts[shard], axis=0)
        return gathered

    def scores(self, queries: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Inner products (q, depth) of each query (q, d) with its own ``positions`` (q, depth); −inf where these are −1."""
        depth = positions.shape[1]
        scores = np.empty(positions.shape, np.float32)
        step = max(1, _BLOCK_VECTORS // max(depth, 1))
        for start in range(0, len(queries), step):
            block = positions[start : start + step]
            vectors = self.gather(np.maximum(block, 0).reshape(-1)).reshape(*block.shape, -1)
            scores[start : start + step] = np.matmul(vectors, queries[start : start + step, :, None])[..., 0]
        scores[positions < 0] = -np.inf
        return scores
