"""Coarse centroids by k-means in torch on a device, in place of FAISS's on cores. Memory there is that of one block of vectors,
of the centroids and of one tile of products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.search.products import moved, nearest

if TYPE_CHECKING:
    import torch

_BLOCK_ROWS = 65_536
_APART = 1 / 1024
"""By how much the halves of a list that is split differ, as in FAISS."""


def set_centroids(index: Any, vectors: NDArray[np.float32], seed: int, device: torch.device) -> None:
    """Gives an untrained FAISS index the coarse centroids of some vectors (rows, d), and leaves the rest of its training to
    FAISS, which takes them as they are. Does nothing for an index without a plain list of centroids, behind a transform that
    is not trained yet, or with more lists than vectors."""
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None or not isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexFlat) or ivf.quantizer.ntotal:
        return
    whole = faiss.downcast_index(index)
    chain = whole.chain if isinstance(whole, faiss.IndexPreTransform) else None
    transforms = [chain.at(step) for step in range(chain.size())] if chain is not None else []
    if len(vectors) < ivf.nlist or not all(transform.is_trained for transform in transforms):
        return
    for transform in transforms:
        vectors = transform.apply(vectors)
    chosen = np.random.default_rng(seed).permutation(len(vectors))[: ivf.nlist]
    ivf.quantizer.add(cluster(vectors, vectors[chosen], ivf.cp.niter, device, spherical=ivf.cp.spherical))


def cluster(
    vectors: NDArray[np.float32], start: NDArray[np.float32], iterations: int, device: torch.device, *, spherical: bool
) -> NDArray[np.float32]:
    """The centroids (c, d) float32 that k-means makes of those at the ``start`` (c, d) for some vectors (rows, d).

    A vector belongs to the centroid of the greatest inner product; where ``spherical``, centroids are of unit length. A
    centroid to which none belongs takes half of the vectors of one of the largest, as far as there are such.
    """
    import torch

    centroids = _of_unit_length(moved(start, device)) if spherical else moved(start, device)
    for _ in range(iterations):
        sums = torch.zeros_like(centroids)
        counts = torch.zeros(len(centroids), dtype=torch.int64, device=device)
        for first in range(0, len(vectors), _BLOCK_ROWS):
            block = moved(vectors[first : first + _BLOCK_ROWS], device)
            belong = nearest(block, centroids)
            sums.index_add_(0, belong, block)
            counts += torch.bincount(belong, minlength=len(centroids))
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
        _split_largest(centroids, counts)
        if spherical:
            centroids = _of_unit_length(centroids)
    found: NDArray[np.float32] = centroids.cpu().numpy()
    return found


def _split_largest(centroids: torch.Tensor, counts: torch.Tensor) -> None:
    """Puts empty centroids beside those of most vectors: the two move apart by turns of their components."""
    import torch

    empty = (counts == 0).nonzero()[:, 0]
    largest = counts.argsort(descending=True)[: len(empty)]
    largest = largest[counts[largest] > 1]
    empty = empty[: len(largest)]
    by_turns = torch.ones(centroids.shape[1], device=centroids.device)
    by_turns[1::2] = -1
    halves = centroids[largest]
    centroids[empty], centroids[largest] = halves * (1 + _APART * by_turns), halves * (1 - _APART * by_turns)


def _of_unit_length(vectors: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(vectors, dim=1)
