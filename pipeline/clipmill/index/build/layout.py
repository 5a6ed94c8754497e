"""The names of an index's files. They follow from the shard's number alone, so that writing one again replaces it."""

from dataclasses import dataclass

TRAINED_FILE = "trained.faiss"
QUERY_TRANSFORM_FILE = "query_transform.npy"
"""What queries are multiplied by where they are projected otherwise than vectors: float32 (directions, d). The shards then hold
no transform, so that one who searches them with queries that are not projected is told by FAISS that the dimension is wrong."""


@dataclass(frozen=True)
class ShardRange:
    """Shard ``number`` holds positions ``start`` to ``stop`` − 1 of the gallery."""

    number: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def index_file(self) -> str:
        return f"shard-{self.number:05d}.faiss"

    @property
    def vectors_file(self) -> str:
        return f"vectors-{self.number:05d}.npy"

    @property
    def rows_file(self) -> str:
        return f"rows-{self.number:05d}.npy"

    @property
    def row_table_file(self) -> str:
        return f"rows-{self.number:05d}.parquet"


def places(n: int, shards: int) -> list[ShardRange]:
    """``n`` positions cut into at most ``shards`` contiguous runs of nearly equal length, none empty."""
    shards = min(shards, n)
    bounds = [n * number // shards for number in range(shards + 1)]
    return [ShardRange(number, bounds[number], bounds[number + 1]) for number in range(shards)]
