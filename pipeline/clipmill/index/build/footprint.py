"""Bytes that search keeps resident, counted from the layout of the index and not guessed."""

from dataclasses import asdict, dataclass
from typing import Any

import faiss

BLOCK = 32
"""Vectors a block of a fast-scan list: each list is padded to a multiple of it."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one index over all its shards; the coarse centroids are counted once, since shards share them.
    ``rotation`` is what each shard has of a transform before its lists."""

    codes: int
    ids: int
    centroids: int
    codebooks: int
    rotation: int = 0

    @property
    def total(self) -> int:
        return self.codes + self.ids + self.centroids + self.codebooks + self.rotation

    def as_dict(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def flat_footprint(n: int, dimension: int) -> Footprint:
    """An exact index of float32 vectors."""
    return Footprint(codes=4 * n * dimension, ids=0, centroids=0, codebooks=0)


def fast_scan_bytes(m: int) -> int:
    """Bytes of one vector's 4-bit codes, an even number of which is stored."""
    return (m + 1) // 2


def ivf_fast_scan_footprint(
    n: int, dimension: int, nlist: int, m: int, shards: int, rotated_from: int | None = None
) -> Footprint:
    """An upper bound for ``IVF{nlist},PQ{m}x4fsr`` before it is built: as if every list of every shard were padded.

    ``rotated_from`` is the dimension of the vectors where they are rotated to ``dimension`` first.
    """
    return Footprint(
        codes=(n + (BLOCK - 1) * nlist * shards) * fast_scan_bytes(m),
        ids=8 * n,
        centroids=4 * nlist * dimension,
        codebooks=4 * 16 * dimension,
        rotation=0 if rotated_from is None else shards * _rotation_bytes(rotated_from, dimension),
    )


def _rotation_bytes(before: int, after: int) -> int:
    """A matrix, what is added after it, and the mean that FAISS keeps beside it."""
    return 4 * (before * after + after + before)


def measured_footprint(index: Any) -> Footprint:
    """The bytes of a FAISS index that is there: one shard, with its own centroids and codebooks."""
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None:
        if isinstance(index, faiss.IndexFlat):
            return flat_footprint(index.ntotal, index.d)
        return Footprint(codes=faiss.serialize_index(index).size, ids=0, centroids=0, codebooks=0)
    ivf = faiss.downcast_index(ivf)
    lists = faiss.downcast_InvertedLists(ivf.invlists)
    if isinstance(lists, faiss.BlockInvertedLists):
        blocks = sum(-(-lists.list_size(number) // lists.n_per_block) for number in range(ivf.nlist))
        codes = blocks * lists.block_size
    else:
        codes = ivf.ntotal * ivf.code_size
    quantizer = faiss.downcast_index(ivf.quantizer)
    codebooks = 4 * ivf.pq.centroids.size() if hasattr(ivf, "pq") else 0
    return Footprint(codes, 8 * ivf.ntotal, 4 * quantizer.ntotal * quantizer.d, codebooks, _measured_rotation(index))


def _measured_rotation(index: Any) -> int:
    whole = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        return 0
    chain = [faiss.downcast_VectorTransform(whole.chain.at(step)) for step in range(whole.chain.size())]
    result: int = 4 * sum(
        getattr(step, name).size() for step in chain for name in ("A", "b", "mean") if hasattr(step, name)
    )
    return result


def add_shard(total: Footprint | None, shard: Footprint) -> Footprint:
    """The index so far and one more shard, whose centroids and codebooks are those of the first."""
    if total is None:
        return shard
    return Footprint(
        total.codes + shard.codes,
        total.ids + shard.ids,
        total.centroids,
        total.codebooks,
        total.rotation + shard.rotation,
    )
