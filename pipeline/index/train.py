"""Training: once for all shards, and the fingerprint by which a shard is known to come from this training."""

import hashlib
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.index.factory import empty_index


def train_index(factory: str, dimension: int, sample: NDArray[np.float16], seed: int) -> Any:
    """An empty FAISS index trained on ``sample`` (rows, d). Threads are those of FAISS."""
    index = empty_index(factory, dimension)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed + 1
        ivf.cp.max_points_per_centroid = max(1, -(-len(sample) // max(ivf.nlist, 1)))
    if not index.is_trained:
        index.train(np.ascontiguousarray(sample, dtype=np.float32))
    return index


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
