"""Training: once for all shards, and the fingerprint by which a shard is known to come from this training."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.build.coarse import set_centroids
from clipmill.index.build.factory import empty_index

if TYPE_CHECKING:
    import torch

_ROTATION_ROWS = 50_000
"""Vectors from which the directions of a PCA are found: a hundred for each of 512 components."""
_BLOCK_ROWS = 4096


def train_index(
    factory: str, dimension: int, sample: NDArray[np.floating], seed: int, device: torch.device | None = None
) -> Any:
    """An empty FAISS index trained on ``sample`` (rows, d), of which no copy is made where it is float32. Threads are those
    of FAISS; with a ``device``, coarse centroids are found there."""
    index = empty_index(factory, dimension)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed + 1
        ivf.cp.max_points_per_centroid = max(1, -(-len(sample) // max(ivf.nlist, 1)))
    codec = faiss.downcast_index(ivf) if ivf is not None else index
    if hasattr(codec, "do_polysemous_training"):
        codec.do_polysemous_training = False  # seconds a sub-quantizer, for a comparison that no search here makes
    vectors = np.ascontiguousarray(sample, dtype=np.float32)
    _set_rotation(index, vectors, seed)
    if device is not None and not index.is_trained:
        set_centroids(index, vectors, seed, device)
    if not index.is_trained:
        index.train(vectors)
    return index


def _set_rotation(index: Any, vectors: NDArray[np.float32], seed: int) -> None:
    """Trains a PCA before the lists without taking away the mean, which would change inner products: it turns towards
    the directions in which vectors are longest, and at random within these where the factory says so (PCAR)."""
    whole = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        return
    first = faiss.downcast_VectorTransform(whole.chain.at(0))
    if not isinstance(first, faiss.PCAMatrix) or len(vectors) < first.d_out:
        return
    rows = np.ascontiguousarray(np.linalg.eigh(_second_moments(vectors))[1][:, ::-1][:, : first.d_out].T)
    if first.random_rotation:
        rows = np.linalg.qr(np.random.default_rng(seed).standard_normal((first.d_out, first.d_out)))[0] @ rows
    faiss.copy_array_to_vector(rows.astype(np.float32).reshape(-1), first.A)
    faiss.copy_array_to_vector(np.zeros(first.d_out, np.float32), first.b)
    faiss.copy_array_to_vector(np.zeros(first.d_in, np.float32), first.mean)
    first.have_bias = False
    first.is_trained = True


def _second_moments(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums of products (d, d) of the components of some vectors, block by block: their float64 copies are large."""
    few = vectors[:: max(1, len(vectors) // _ROTATION_ROWS)]
    moments = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(few), _BLOCK_ROWS):
        block = few[start : start + _BLOCK_ROWS].astype(np.float64)
        moments += block.T @ block
    return moments


def codebook_sha256(index: Any) -> str:
    """Identity of what training made: the transforms before the index, its coarse centroids and its codebooks.

    The same for an empty index and for its filled shards. FAISS does not check that shards belong together: searching
    or merging those of different trainings succeeds and returns garbage.
    """
    digest = hashlib.sha256(f"{index.d} {index.metric_type}".encode())
    inner = whole = faiss.downcast_index(index)  # what is inside lives only as long as the whole
    if isinstance(whole, faiss.IndexPreTransform):
        for position in range(whole.chain.size()):
            transform = faiss.downcast_VectorTransform(whole.chain.at(position))
            for name in ("A", "b", "mean"):
                _update(digest, getattr(transform, name, None))
        inner = faiss.downcast_index(whole.index)
    if isinstance(inner, faiss.IndexIVF):
        digest.update(faiss.serialize_index(inner.quantizer).tobytes())
    if hasattr(inner, "pq"):
        _update(digest, inner.pq.centroids)
    if hasattr(inner, "sq"):
        _update(digest, inner.sq.trained)
    return digest.hexdigest()


def _update(digest: Any, values: Any) -> None:
    if values is not None and hasattr(values, "size"):
        digest.update(faiss.vector_to_array(values).tobytes())
