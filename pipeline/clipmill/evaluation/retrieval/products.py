"""Counting a gallery, or a part of it, against the levels of some queries: by blocked matrix products, on several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from clipmill.evaluation.retrieval.counting import Counts, Levels, Strip, count_strip
from clipmill.evaluation.retrieval.on_device import count_on
from clipmill.evaluation.vectors import blocks, let_go

if TYPE_CHECKING:
    import torch

BLOCK = 4096
"""Queries whose vectors are held at a time, while the gallery passes by."""
GALLERY_BLOCK = 16_384
"""Gallery items that are held at a time."""
TILE_QUERIES = 512
"""Queries per matrix product: 32 MiB of float32 scores."""
_STRIP_QUERIES = 64
MOST_WORKERS = BLOCK // TILE_QUERIES
"""Tiles of a block, which are what threads share out."""

Counting = Callable[[NDArray[np.float32], NDArray[np.float16], Levels], Counts]
"""Queries (q, d), items (n, d) and the queries' levels to the items that reach each level."""


@contextmanager
def counting(
    workers: int | None = None, gallery_block: int = GALLERY_BLOCK, device: torch.device | None = None
) -> Iterator[Counting]:
    """What counts, for the length of the block, on so many threads (default: as many as the BLAS has), or on a ``device``.

    Each worker both multiplies and counts: with BLAS threads of its own, one would spin while the other works.
    """
    if device is not None:
        yield partial(count_on, device)
        return
    blas = ThreadpoolController().select(user_api="blas")
    threads = workers or max([1, *(library["num_threads"] for library in blas.info())])
    threads = min(MOST_WORKERS, threads)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield lambda queries, items, levels: _count(queries, items, levels, gallery_block, threads, pool)


def _count(
    queries: NDArray[np.float32],
    values: NDArray[np.float16],
    levels: Levels,
    gallery_block: int,
    workers: int,
    pool: ThreadPoolExecutor,
) -> Counts:
    """Counts ``values`` (n, d) against the levels of the ``queries`` (q, d), block by block, tiles of queries at a time."""
    counts = Counts(np.zeros(len(levels.values), np.int64), np.zeros(len(levels.values), np.int64))
    width = min(gallery_block, len(values))
    rows = min(TILE_QUERIES, len(queries))
    items = np.empty((width, values.shape[1]), np.float32)
    free: SimpleQueue[tuple[NDArray[np.float32], NDArray[np.bool_]]] = SimpleQueue()
    for _ in range(workers):
        free.put((np.empty(rows * width, np.float32), np.empty(_STRIP_QUERIES * width, np.bool_)))

    def count_tile(tile: slice, held: NDArray[np.float32]) -> None:
        buffers = free.get()
        try:
            size, across = tile.stop - tile.start, len(held)
            scores, reached = buffers[0][: size * across].reshape(size, across), buffers[1]
            np.matmul(queries[tile], held.T, out=scores)
            for strip in blocks(size, _STRIP_QUERIES):
                mask = reached[: (strip.stop - strip.start) * across].reshape(-1, across)
                count_strip(Strip(scores[strip], tile.start + strip.start, queries, held), levels, counts, mask)
        finally:
            free.put(buffers)

    # Each block of the gallery is widened once; its tiles change different counts, so they run at the same time.
    for part in blocks(len(values), width):
        held = items[: part.stop - part.start]
        held[:] = values[part]
        let_go(values)
        for tile in [pool.submit(count_tile, tile, held) for tile in blocks(len(queries), rows)]:
            tile.result()
    return counts
