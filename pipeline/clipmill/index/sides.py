"""An index whose queries are projected otherwise than its vectors: the trained index holds the side of the vectors, its shards
hold none, and the side of the queries lies in a file beside them."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


def bare(index: Any) -> Any:
    """What an index holds behind its transforms, or the index where it has none. It lives only as long as ``index`` does."""
    whole = faiss.downcast_index(index)
    return faiss.downcast_index(whole.index) if isinstance(whole, faiss.IndexPreTransform) else whole


def behind(transform: NDArray[np.float32], index: Any) -> Any:
    """An index of r dimensions that takes queries of d, which it multiplies by ``transform`` (r, d) first."""
    rows, columns = transform.shape
    step = faiss.LinearTransform(columns, rows, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(transform, np.float32).reshape(-1), step.A)
    step.is_trained = True
    return faiss.IndexPreTransform(step, index)
