"""Exact scores of given rows from their stored float16 vectors."""

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

_BLOCK_VECTORS = 512
"""Vectors gathered at a time: few enough that their float32 copies stay in the processor's cache."""


@dataclass(frozen=True)
class StoredVectors:
    """The memory-mapped ``vectors-*.npy`` of an index; ``starts`` are their first positions, and n at the end."""

    shards: Sequence[NDArray[np.float16]]
    starts: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        return int(self.shards[0].shape[1])

    def evict(self) -> bool:
        """Drops the vectors from memory, so that who asks next reads them from disk. False where the system cannot."""
        files = [Path(shard.filename) for shard in self.shards if isinstance(shard, np.memmap) and shard.filename]
        if len(files) < len(self.shards) or not hasattr(os, "posix_fadvise"):
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

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors (n, d) of ``positions`` (n,)."""
        if len(self.shards) == 1:
            return np.take(self.shards[0], positions, axis=0)
        gathered = np.empty((len(positions), self.dimension), np.float16)
        shards = np.searchsorted(self.starts, positions, side="right") - 1
        for shard in np.unique(shards):
            inside = shards == shard
            gathered[inside] = np.take(self.shards[shard], positions[inside] - self.starts[shard], axis=0)
        return gathered

    def scores(self, queries: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Inner products (q, depth) of each query (q, d) with its own ``positions`` (q, depth); −inf where these are −1.

        FAISS decodes the halves, in compiled code and with its own threads.
        """
        decoder = faiss.ScalarQuantizer(self.dimension, faiss.ScalarQuantizer.QT_fp16)
        depth = positions.shape[1]
        scores = np.empty(positions.shape, np.float32)
        step = max(1, _BLOCK_VECTORS // max(depth, 1))
        for start in range(0, len(queries), step):
            block = positions[start : start + step]
            halves = self.gather(np.maximum(block, 0).reshape(-1))
            vectors = decoder.decode(halves.view(np.uint8)).reshape(*block.shape, -1)
            scores[start : start + step] = np.matmul(vectors, queries[start : start + step, :, None])[..., 0]
        scores[positions < 0] = -np.inf
        return scores
