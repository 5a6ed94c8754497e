"""Whether stored vectors are those that an index was filled with, from a few of them and not from a pass over all."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.stored import Coding

_LOOKED_AT = 64
_ENOUGH = 0.8
"""Not all: the nearest of two equally near centroids may be another on another machine."""


def vectors_belong(index: Any, stored: NDArray[Any], coding: Coding, trained: Any) -> bool:
    """Whether row i of ``stored`` vectors (n, d) is what position i of a FAISS index stands for, judged by some of them.
    Vectors were added to it through the transforms of the ``trained`` index, whether it holds them too or not."""
    positions = sampled_positions(len(stored))
    return codes_match(index, positions, coding.decode(stored[positions]), trained)


def sampled_positions(n: int) -> NDArray[np.int64]:
    """The positions that are looked at of ``n``: evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, _LOOKED_AT).astype(np.int64))


def codes_match(index: Any, positions: NDArray[np.int64], sample: NDArray[np.float32], trained: Any) -> bool:
    """Whether these positions (p,) of a FAISS index stand for these vectors (p, d), which passed the transforms of
    ``trained``.

    In an index with lists, a vector must be in the list of its nearest centroid; in another, its reconstruction must
    point the same way.
    """
    if not np.isfinite(sample).all():
        return False
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None:
        rebuilt = np.stack([index.reconstruct(int(position)) for position in positions])
        lengths = np.linalg.norm(rebuilt, axis=1) * np.linalg.norm(sample, axis=1)
        alike = np.sum(rebuilt * sample, axis=1) > 0.7 * lengths
        return bool(alike.mean() >= _ENOUGH)
    whole = faiss.downcast_index(trained)
    if isinstance(whole, faiss.IndexPreTransform):
        for step in range(whole.chain.size()):
            sample = whole.chain.at(step).apply(sample)
    lists = ivf.quantizer.search(sample, 1)[1][:, 0]
    inside = [position in _ids(ivf, int(number)) for position, number in zip(positions, lists, strict=True)]
    return bool(np.mean(inside) >= _ENOUGH)


def _ids(ivf: Any, number: int) -> NDArray[np.int64]:
    size = ivf.invlists.list_size(number)
    return faiss.rev_swig_ptr(ivf.invlists.get_ids(number), size) if size else np.empty(0, np.int64)
