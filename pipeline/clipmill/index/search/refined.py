"""One shard and its stored vectors as one FAISS index: codes are searched, and the best of them scored exactly, without a
step in Python between them or a copy of any vector."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.faiss_file import limits
from clipmill.index.search.exact import TopK, ordered
from clipmill.index.search.selection import search_parameters

_PARAMETERS_KEPT = 64


class Refined:
    """A FAISS shard and the float16 vectors (n, d) beside it. Where these are mapped copy-on-write they are used where they
    are: FAISS wants a header of its own before them, which this process's copy of their first page gets in place of that of
    the `.npy` file. Others are copied."""

    def __init__(self, shard: Any, vectors: NDArray[np.float16]) -> None:
        self._shard = shard
        self._vectors = vectors
        mapped = _mapped(vectors)
        self._exact = _copied(vectors) if mapped is None else mapped
        self._index = faiss.IndexRefine(shard, self._exact)
        self._parameters: dict[tuple[int, int, int], Any] = {}

    def search(
        self, queries: NDArray[np.float32], k: int, nprobe: int, depth: int, bits: NDArray[np.uint8] | None = None
    ) -> TopK:
        """The best ``k`` by exact score of the ``depth`` best by code, ``depth`` or fewer: scores (q, k) float32, best first,
        and positions (q, k) int64; −inf and −1 where there are fewer. ``bits`` select rows as in `search_parameters`."""
        scores, positions = self._index.search(queries, k, params=self._told(k, nprobe, depth, bits))
        return ordered(scores, positions)

    def _told(self, k: int, nprobe: int, depth: int, bits: NDArray[np.uint8] | None) -> Any:
        """FAISS's parameters; making them takes longer than a list, so those without a selection are kept."""
        key = (k, nprobe, depth)
        if bits is None and key in self._parameters:
            return self._parameters[key]
        codes = search_parameters(self._shard, nprobe, bits)
        told = faiss.IndexRefineSearchParameters(k_factor=(depth + 0.5) / k, base_index_params=codes)
        if bits is None and len(self._parameters) < _PARAMETERS_KEPT:
            self._parameters[key] = told
        return told


def _mapped(vectors: NDArray[np.float16]) -> Any:
    """A FAISS index that reads the vectors where they are mapped; None where that cannot be. They must outlive it."""
    if not isinstance(vectors, np.memmap) or vectors.mode != "c":
        return None
    header = _flat(vectors.shape)
    header[-8:] = np.frombuffer(np.uint64(vectors.nbytes).tobytes(), np.uint8)
    mapped = np.frombuffer(vectors._mmap, np.uint8)  # type: ignore[attr-defined]
    start = vectors.ctypes.data - mapped.ctypes.data - len(header)
    if start < 0:
        return None
    mapped[start : start + len(header)] = header
    place = faiss.cast_integer_to_uint8_ptr(mapped[start:].ctypes.data)
    with limits(mapped.size):
        return faiss.read_index(faiss.ZeroCopyIOReader(place, mapped.size - start))


def _copied(vectors: NDArray[np.float16]) -> Any:
    index = faiss.deserialize_index(_flat((0, vectors.shape[1])))
    index.add_sa_codes(np.ascontiguousarray(vectors).view(np.uint8))
    return index


def _flat(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The FAISS file of so many float16 vectors, without the vectors: at its end it says that it has no bytes of them."""
    index = faiss.IndexScalarQuantizer(shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.ntotal = shape[0]
    file: NDArray[np.uint8] = faiss.serialize_index(index).copy()
    return file
