"""One shard and its stored vectors as one FAISS index: codes are searched, and the best of them scored exactly, without a
step in Python between them or a copy of any vector."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.faiss_file import limits
from clipmill.index.search.exact import TopK, best_of
from clipmill.index.search.selection import search_parameters

_PARAMETERS_KEPT = 64


class Refined:
    """A FAISS shard and the float16 vectors (n, d) beside it, which are mapped into memory copy-on-write: FAISS wants a header
    of its own before them, and gets it in this process's copy of the first page, in place of that of the `.npy` file."""

    def __init__(self, shard: Any, vectors: np.memmap[Any, np.dtype[np.float16]]) -> None:
        self._shard = shard
        self._vectors = vectors
        header = _flat_header(*vectors.shape)
        mapped = np.frombuffer(vectors._mmap, np.uint8)  # type: ignore[attr-defined]
        start = _data_offset(vectors) - len(header)
        mapped[start : start + len(header)] = header
        self._reader = faiss.ZeroCopyIOReader(
            faiss.cast_integer_to_uint8_ptr(mapped[start:].ctypes.data), mapped.size - start
        )
        with limits(mapped.size):
            self._exact = faiss.read_index(self._reader)
        self._index = faiss.IndexRefine(shard, self._exact)
        self._parameters: dict[tuple[int, int, int], Any] = {}

    @staticmethod
    def of(shard: Any, vectors: NDArray[np.float16]) -> "Refined | None":
        """None where the vectors are not mapped in such a way, or not as many as the shard's."""
        if not isinstance(vectors, np.memmap) or vectors.mode != "c" or vectors.dtype != np.float16:
            return None
        if _data_offset(vectors) < len(_flat_header(*vectors.shape)) or len(vectors) != shard.ntotal:
            return None
        return Refined(shard, vectors)

    def search(
        self, queries: NDArray[np.float32], k: int, nprobe: int, depth: int, bits: NDArray[np.uint8] | None = None
    ) -> TopK:
        """The best ``k`` by exact score of the ``depth`` best by code, ``depth`` or fewer: scores (q, k) float32, best first,
        and positions (q, k) int64; −inf and −1 where there are fewer. ``bits`` select rows as in `search_parameters`."""
        scores, positions = self._index.search(queries, k, params=self._told(k, nprobe, depth, bits))
        missing = positions < 0
        if missing.any():
            scores[missing] = -np.inf
        if (
            scores[:, 1:] == scores[:, :-1]
        ).any():  # the lower position first; lexsort takes as long as the rest of a search
            return best_of(scores, positions, k)
        return scores, positions

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


def _data_offset(vectors: NDArray[Any]) -> int:
    return int(vectors.ctypes.data - np.frombuffer(vectors._mmap, np.uint8).ctypes.data)  # type: ignore[attr-defined]


def _flat_header(rows: int, dimension: int) -> NDArray[np.uint8]:
    """What the FAISS file of so many float16 vectors begins with, up to the vectors."""
    empty = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    empty.ntotal = rows
    header: NDArray[np.uint8] = faiss.serialize_index(empty).copy()
    header[-8:] = np.frombuffer(np.uint64(2 * rows * dimension).tobytes(), np.uint8)
    return header
