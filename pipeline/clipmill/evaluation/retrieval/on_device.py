"""Counting a part of a gallery on a GPU, which multiplies and finds what reaches a level. Exact scores of the few pairs that
come near one are computed on cores, as they are where cores multiply, so counts are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.counting import DENSE, Counts, Levels, Strip, count_dense, count_pairs
from clipmill.evaluation.vectors import blocks
from clipmill.index.search.products import in_float32, moved, tiles

if TYPE_CHECKING:
    import torch

_ITEMS = 65_536
"""Items on the device at a time."""


def count_on(device: torch.device, queries: NDArray[np.float32], items: NDArray[np.float16], levels: Levels) -> Counts:
    """How many of ``items`` (n, d) reach each level of the ``queries`` (q, d)."""
    counts = Counts(np.zeros(len(levels.values), np.int64), np.zeros(len(levels.values), np.int64))
    asked, lowest = moved(queries, device), moved(levels.lowest, device)
    with in_float32():
        for part in blocks(len(items), _ITEMS):
            held, there = items[part].astype(np.float32), moved(items[part], device)
            for tile in tiles(len(queries), len(held)):
                _count_tile(asked[tile] @ there.T, lowest[tile], tile.start, queries, held, levels, counts)
    return counts


def _count_tile(
    products: torch.Tensor,
    lowest: torch.Tensor,
    first: int,
    queries: NDArray[np.float32],
    held: NDArray[np.float32],
    levels: Levels,
    counts: Counts,
) -> None:
    """Adds the items of a tile of ``products`` (rows, n), whose first query is number ``first``."""
    reached = products >= lowest
    # Rows in which many items reach a level are counted whole, here.
    for dense in np.flatnonzero(reached.sum(dim=1).cpu().numpy() > DENSE * len(held)).tolist():
        strip = Strip(products[dense : dense + 1].cpu().numpy(), first + dense, queries, held)
        count_dense(strip, np.zeros(1, np.int64), levels, counts)
        reached[dense] = False
    # What is left of all other rows are a few pairs.
    row, item = (places.cpu().numpy() for places in reached.nonzero(as_tuple=True))
    if len(row):
        strip = Strip(np.empty((0, len(held)), np.float32), first, queries, held)
        count_pairs(strip, row + first, item, products[reached].cpu().numpy(), levels, counts)
