"""Which rows a search may return: one bit a position, from a condition on the columns of the index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.datasets.expressions import Expression
from clipmill.index.search.rows import RowTable

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Selection:
    """``bits[i]`` holds a bit for each row of shard i, least significant first; ``starts`` as in `StoredVectors`."""

    bits: Sequence[NDArray[np.uint8]]
    starts: NDArray[np.int64]

    @cached_property
    def count(self) -> int:
        """Rows that may be returned."""
        return sum(int(np.unpackbits(bits).sum()) for bits in self.bits)

    @property
    def positions(self) -> NDArray[np.int64]:
        """The positions that may be returned, in order."""
        found = [
            np.flatnonzero(np.unpackbits(bits, bitorder="little")) + start
            for bits, start in zip(self.bits, self.starts, strict=False)
        ]
        return np.concatenate(found)

    def holds(self, position: int) -> bool:
        """Whether this position may be returned."""
        shard = int(np.searchsorted(self.starts, position, side="right")) - 1
        local = position - int(self.starts[shard])
        return bool(self.bits[shard][local >> 3] >> (local & 7) & 1)


def select(table: RowTable, where: str) -> Selection:
    """The rows that meet a condition on the columns of the index, in one pass over the columns that it names.

    Raises UserError for what is no condition (see `Expression`).
    """
    expression = Expression.parse(where, table.schema, "--where")
    bits = []
    for shard in range(len(table.paths)):
        masks = [np.zeros(0, bool)]
        masks += [expression.mask(batch) for batch in table.batches(shard, expression.columns, _BATCH_ROWS)]
        bits.append(np.packbits(np.concatenate(masks), bitorder="little"))
    return Selection(bits, table.starts)


def selects(index: Any) -> bool:
    """Whether FAISS leaves rows out while it searches such an index, and still finds the best of the others. A graph is
    not among them: it is walked over the rows that are left, and loses its way."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return selects(index.index)
    return isinstance(index, (faiss.IndexIVF, faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexRaBitQ))


def search_parameters(index: Any, nprobe: int, bits: NDArray[np.uint8] | None) -> Any:
    """What FAISS is told for one search; None where there is nothing to tell.

    ``bits`` select rows of an index that `selects`, and must live as long as what is returned is used.
    """
    index = faiss.downcast_index(index)
    selector = {} if bits is None else {"sel": faiss.IDSelectorBitmap(bits)}
    if isinstance(index, faiss.IndexPreTransform):
        inner = search_parameters(index.index, nprobe, bits)
        return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=min(max(nprobe, 1), index.nlist), **selector)
    return faiss.SearchParameters(**selector) if selector else None
