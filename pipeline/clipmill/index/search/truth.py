"""What an index is measured with: exact search over the vectors as they were embedded, wherever they are to be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.index.build.gallery import Gallery
from clipmill.index.search.exact import TopK, exact_top_k
from clipmill.index.search.recall import known_scores
from clipmill.index.search.search import Index

if TYPE_CHECKING:
    import torch

_BLOCK_ROWS = 65_536
_BEYOND = 4
"""So many times k exact results tell the scores of most of what an index found where it cannot tell them itself."""

Scores = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]


def exact_results(
    index: Index, gallery: Gallery, queries: NDArray[np.float32], k: int, device: torch.device | None = None
) -> TopK:
    """The exact ``k`` results of each query (q, d) or more of them: from the vectors beside the index where these are as they
    were embedded, else from the ``gallery`` that it was built over."""
    stored = index.sharded.vectors
    if stored.are_exact:
        return exact_top_k(queries, stored.blocks(_BLOCK_ROWS), k, device)
    return exact_top_k(queries, gallery.vectors(_BLOCK_ROWS), min(_BEYOND * k, index.n), device)


def exact_scores(index: Index, gallery: Gallery, truth: TopK) -> Scores:
    """What gives the exact scores (q, k) of those queries at some positions (q, k); −inf for what is surely worse than the k-th
    best, where these are not stored."""
    stored = index.sharded.vectors
    if stored.are_exact:
        return stored.scores
    return lambda queries, positions: known_scores(truth, positions, queries, gallery)
