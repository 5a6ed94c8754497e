"""Bytes of an index on disk, counted from the layout of its files."""

from dataclasses import dataclass

from clipmill.index.build.footprint import BLOCK
from clipmill.index.build.plan import Plan

_NPY_HEADER = 128
_ROW_TABLE_GROWTH = 1.25
"""Small row groups, so that one row is read quickly, take so many times the bytes of large ones."""


@dataclass(frozen=True)
class IndexBytes:
    """Files of an index: ``codes`` (the FAISS files, trained.faiss included), ``vectors`` for re-ranking, ``rows`` (which
    row is at which position, twice: as numbers and with the columns kept)."""

    codes: float
    vectors: float
    rows: float

    @property
    def total(self) -> float:
        return self.codes + self.vectors + self.rows


def index_bytes(plan: Plan, n: int, dimension: int, row_table_bytes: float) -> IndexBytes:
    """``row_table_bytes`` are those of the id and the kept columns of a row in large row groups.

    A plan's footprint is an upper bound, as if every list were padded by 31 vectors; here it is half of that, which it is
    on average. Every shard's file repeats centroids and codebooks.
    """
    shards = plan.shards
    footprint = plan.chosen.footprint
    assert footprint is not None
    lists = plan.chosen.nlist * shards
    padded = footprint.codes * (n + lists * (BLOCK - 1) / 2) / (n + lists * (BLOCK - 1)) if lists else footprint.codes
    shared = footprint.centroids + footprint.codebooks
    trained = shared + footprint.rotation / shards
    codes = padded + footprint.ids + shards * shared + footprint.rotation + trained
    vectors = 2.0 * dimension * n + _NPY_HEADER * shards
    rows = n * (8 + _ROW_TABLE_GROWTH * row_table_bytes) + _NPY_HEADER * shards
    return IndexBytes(codes, vectors, rows)
