"""The first results of every query by exact search, block by block: what others score again is made of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.counting import pair_products
from clipmill.evaluation.vectors import Vectors, blocks, let_go
from clipmill.index.search.exact import exact_top_k

_QUERIES, _GALLERY = 4096, 65_536
_MARGIN = 16
"""Results beyond those asked for whose exact scores are looked at too, since float32 scores may be in another order."""


@dataclass(frozen=True)
class RankedBlock:
    """Queries at positions ``asked`` (q,), and of each the gallery positions ``found`` (q, k) with their ``scores`` float64
    (q, k), best first, and where these tie by position."""

    asked: NDArray[np.int64]
    found: NDArray[np.int64]
    scores: NDArray[np.float64]


def ranked_blocks(
    queries: Vectors, gallery: Vectors, asked: NDArray[np.int64], depth: int, most: int = _QUERIES
) -> Iterator[RankedBlock]:
    """The first ``depth`` results of the queries at ``asked``, or the whole gallery where it is smaller, at most ``most``
    queries at a time."""
    k = min(depth, len(gallery))
    for part in blocks(len(asked), min(most, _QUERIES)):
        at = asked[part]
        stream = ((block.start, gallery.values[block]) for block in blocks(len(gallery), _GALLERY))
        _, found = exact_top_k(queries.values[at].astype(np.float32), stream, min(k + _MARGIN, len(gallery)))
        let_go(gallery.values)
        wide = found.shape[1]
        scores = pair_products(queries.values, np.repeat(at, wide), gallery.values, found.reshape(-1))
        scores = scores.reshape(found.shape)
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        yield RankedBlock(at, np.take_along_axis(found, order, axis=1), np.take_along_axis(scores, order, axis=1))
