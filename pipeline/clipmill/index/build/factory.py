"""FAISS factory strings: an empty index from one, and which of them an index of ours can be."""

import re
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.index.faiss_file import limits

_REFUSED = {
    r"(^|,)IDMap": "rows are found by their position, so ids must not be mapped",
    r"(^|,)(Refine|RFlat)": "results are already re-ranked exactly from the stored vectors",
    r"(^|,)(ITQ|LSH)": "it compares by Hamming distance and not by inner product",
}


def empty_index(factory: str, dimension: int) -> Any:
    """An untrained FAISS index over inner product.

    Raises UserError for a string that FAISS does not know, that does not suit the dimension, or that cannot search by
    inner product or add rows by position.
    """
    for pattern, reason in _REFUSED.items():
        if re.search(pattern, factory):
            raise UserError(f"--factory {factory}: not possible here: {reason}")
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UserError(f"--factory {factory}: {_reason(error, dimension)}; leave it out to have one chosen") from None
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None and ivf.nlist < 1:
        raise UserError(f"--factory {factory}: an index needs at least one list; leave it out to have one chosen")
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise UserError(f"--factory {factory}: it does not search by inner product")
    return index


def _reason(error: RuntimeError, dimension: int) -> str:
    """What FAISS says, without the place in its source."""
    line = str(error).partition("\n")[0]
    if "could not parse" in line or "stoi" in line:
        return "could not be parsed by FAISS"
    said = line.rpartition("' failed: ")[2].rstrip(". ") if "' failed: " in line else ""
    return f"FAISS cannot make it for {dimension} dimensions" + (f" ({said})" if said else "")


def training_floor(index: Any) -> int:
    """The least vectors that FAISS can train this index with: as many as the centroids of its largest clustering."""
    ivf = faiss.try_extract_index_ivf(index)
    codec = ivf if ivf is not None else index
    per_quantizer = 1 << codec.pq.nbits if hasattr(codec, "pq") else 1
    return max(nlist_of(index), per_quantizer, 1)


def holds_vectors(index: Any) -> bool:
    """Whether an index scores with the vectors themselves, or with halves of them, and not with codes."""
    inner = faiss.downcast_index(index)
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return isinstance(inner, (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexHNSWFlat))


def nlist_of(index: Any) -> int:
    """Inverted lists of the index; 0 when it has none."""
    ivf = faiss.try_extract_index_ivf(index)
    return 0 if ivf is None else int(ivf.nlist)


def to_bytes(index: Any) -> NDArray[np.uint8]:
    """The index as the bytes of its file."""
    data: NDArray[np.uint8] = faiss.serialize_index(index)
    return data


def from_bytes(data: NDArray[np.uint8]) -> Any:
    """An index of its own from bytes whose origin is known: FAISS trusts what it reads."""
    with limits(data.nbytes):
        return faiss.deserialize_index(data)
