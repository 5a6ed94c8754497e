"""How the vectors for re-ranking are stored: as they were embedded, or a byte a component."""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_MARGIN = 0.05
"""Of the width of a component's range in a sample, added at both ends: others of the gallery may lie outside. What lies further
out is stored as the end."""


@dataclass(frozen=True)
class Coding:
    """What a row of ``vectors-*.npy`` means. Without ``ranges`` it is the float16 vector (d,). With them it is d bytes: byte b
    of component i stands for ``ranges[0, i]`` + (b + ½) / 255 · ``ranges[1, i]``, least value and width, float32 (2, d)."""

    dimension: int
    ranges: NDArray[np.float32] | None = None

    @property
    def dtype(self) -> str:
        """The type of the array in the file, as `.npy` files name it."""
        return "<f2" if self.ranges is None else "|u1"

    def encode(self, vectors: NDArray[np.float16]) -> NDArray[Any]:
        """Vectors (n, d) as they are stored (n, d)."""
        if self.ranges is None:
            return np.ascontiguousarray(vectors)
        codes: NDArray[np.uint8] = self._quantizer().compute_codes(np.ascontiguousarray(vectors, np.float32))
        return codes

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Vectors (n, d) from stored ones (n, d): compiled, with FAISS's threads."""
        codes = np.ascontiguousarray(stored).view(np.uint8)
        vectors: NDArray[np.float32] = self._quantizer().decode(codes.reshape(len(stored), -1))
        return vectors

    def empty_index(self) -> Any:
        """A FAISS index without vectors that scores stored ones by inner product."""
        index = faiss.IndexScalarQuantizer(self.dimension, self._type, faiss.METRIC_INNER_PRODUCT)
        self._set_ranges(index.sq)
        index.is_trained = True
        return index

    @property
    def _type(self) -> int:
        kind: int = faiss.ScalarQuantizer.QT_fp16 if self.ranges is None else faiss.ScalarQuantizer.QT_8bit
        return kind

    def _quantizer(self) -> Any:
        quantizer = faiss.ScalarQuantizer(self.dimension, self._type)
        self._set_ranges(quantizer)
        return quantizer

    def _set_ranges(self, quantizer: Any) -> None:
        if self.ranges is not None:
            faiss.copy_array_to_vector(np.ascontiguousarray(self.ranges, np.float32).reshape(-1), quantizer.trained)


def ranges_of(sample: NDArray[np.floating]) -> NDArray[np.float32]:
    """The ranges (2, d) of a `Coding` in which the components of a sample (n, d) lie."""
    least, most = sample.min(axis=0).astype(np.float32), sample.max(axis=0).astype(np.float32)
    margin = _MARGIN * (most - least)
    return np.stack([least - margin, np.maximum(most - least + 2 * margin, np.finfo(np.float32).tiny)])
