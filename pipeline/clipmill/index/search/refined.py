"""One shard and its stored vectors as one FAISS index: codes are searched, and the best of them scored exactly, without a
step in Python between them or a copy of any vector."""

import mmap
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.faiss_file import limits
from clipmill.index.search.exact import TopK, ordered
from clipmill.index.search.selection import search_parameters
from clipmill.index.stored import Coding

_PARAMETERS_KEPT = 64


class Refined:
    """A FAISS shard and the stored vectors (n, d) beside it. Where these are mapped copy-on-write they are used where they
    are: FAISS wants a header of its own before them, which this process's copy of their first page gets in place of that of
    the `.npy` file. Others are copied."""

    def __init__(self, shard: Any, vectors: NDArray[Any], coding: Coding) -> None:
        self._shard = shard
        self._vectors = vectors
        mapped = _mapped(vectors, coding)
        self._exact = _copied(vectors, coding) if mapped is None else mapped
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


def header_bytes(coding: Coding) -> int:
    """What a file of vectors must have before them, so that they can be used where they are mapped."""
    return len(_header(0, coding))


def _mapped(vectors: NDArray[Any], coding: Coding) -> Any:
    """A FAISS index that reads the vectors where they are mapped; None where that cannot be. They must outlive it."""
    held: Any = vectors
    while isinstance(held, np.ndarray):
        held = held.base
    if not isinstance(held, mmap.mmap) or not vectors.flags.writeable:
        return None
    header = _header(len(vectors), coding)
    header[-8:] = np.frombuffer(np.uint64(vectors.nbytes).tobytes(), np.uint8)
    mapped = np.frombuffer(held, np.uint8)
    start = vectors.ctypes.data - mapped.ctypes.data - len(header)
    if start < 0:
        return None
    mapped[start : start + len(header)] = header
    place = faiss.cast_integer_to_uint8_ptr(mapped[start:].ctypes.data)
    with limits(mapped.size):
        return faiss.read_index(faiss.ZeroCopyIOReader(place, mapped.size - start))


def _copied(vectors: NDArray[Any], coding: Coding) -> Any:
    index = coding.empty_index()
    index.add_sa_codes(np.ascontiguousarray(vectors).view(np.uint8))
    return index


def _header(rows: int, coding: Coding) -> NDArray[np.uint8]:
    """The FAISS file of so many vectors, without the vectors: at its end it says that it has no bytes of them."""
    index = coding.empty_index()
    index.ntotal = rows
    file: NDArray[np.uint8] = faiss.serialize_index(index).copy()
    return file
