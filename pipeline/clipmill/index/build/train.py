"""Training: once for all shards, and the fingerprint by which a shard is known to come from this training."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.build.coarse import set_centroids
from clipmill.index.build.factory import empty_index
from clipmill.index.build.projection import Projection, rotation, second_moments

if TYPE_CHECKING:
    import torch


def train_index(
    factory: str,
    dimension: int,
    sample: NDArray[np.floating],
    seed: int,
    device: torch.device | None = None,
    projection: Projection | None = None,
) -> Any:
    """An empty FAISS index trained on ``sample`` (rows, d), of which no copy is made where it is float32. Threads are those
    of FAISS; with a ``device``, coarse centroids are found there. A ``projection`` takes the place of the PCA that the factory
    names; the index then has the side of the vectors, and is asked with queries that have passed the other."""
    index = empty_index(factory, dimension)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed + 1
        ivf.cp.max_points_per_centroid = max(1, -(-len(sample) // max(ivf.nlist, 1)))
    codec = faiss.downcast_index(ivf) if ivf is not None else index
    if hasattr(codec, "do_polysemous_training"):
        codec.do_polysemous_training = False  # seconds a sub-quantizer, for a comparison that no search here makes
    vectors = np.ascontiguousarray(sample, dtype=np.float32)
    _set_rotation(index, vectors, seed, projection)
    if device is not None and not index.is_trained:
        set_centroids(index, vectors, seed, device)
    if not index.is_trained:
        index.train(vectors)
    return index


def _set_rotation(index: Any, vectors: NDArray[np.float32], seed: int, projection: Projection | None) -> None:
    """Trains a PCA before the lists without taking away the mean, which would change inner products: it turns towards
    the directions in which vectors are longest, and at random within these where the factory says so (PCAR)."""
    first = pca_of(index)
    if first is None or len(vectors) < first.d_out:
        return
    rows: NDArray[np.floating]
    if projection is not None:
        rows = projection.vectors
    else:
        rows = np.ascontiguousarray(np.linalg.eigh(second_moments(vectors))[1][:, ::-1][:, : first.d_out].T)
        rows = rotation(first.d_out, seed) @ rows if first.random_rotation else rows
    faiss.copy_array_to_vector(rows.astype(np.float32).reshape(-1), first.A)
    faiss.copy_array_to_vector(np.zeros(first.d_out, np.float32), first.b)
    faiss.copy_array_to_vector(np.zeros(first.d_in, np.float32), first.mean)
    first.have_bias = False
    first.is_trained = True


def pca_of(index: Any) -> Any:
    """The PCA that vectors pass before they reach the lists of an index; None where there is none."""
    whole = faiss.downcast_index(index)
    first = faiss.downcast_VectorTransform(whole.chain.at(0)) if isinstance(whole, faiss.IndexPreTransform) else None
    return first if isinstance(first, faiss.PCAMatrix) else None


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
