"""The names of an index's files. They follow from the shard's number alone, so that writing one again replaces it."""

from dataclasses import dataclass

from clipmill.core.schemas import RerankKind

TRAINED_FILE = "trained.faiss"
QUERY_TRANSFORM_FILE = "query_transform.npy"
"""What queries are multiplied by where they are projected otherwise than vectors: float32 (directions, d). The shards then hold
no transform, so that one who searches them with queries that are not projected is told by FAISS that the dimension is wrong."""

RANGES_FILE = "vectors_range.npy"
"""What the bytes of stored vectors mean where they are not float16: least value and width of each component, float32 (2, d)."""
_NAMES = {
    "index": "shard-{:05d}.faiss",
    "vectors": "vectors-{:05d}.npy",
    "rows": "rows-{:05d}.npy",
    "row_table": "rows-{:05d}.parquet",
}
PARTS = tuple(_NAMES)


def parts_of(kind: RerankKind) -> tuple[str, ...]:
    """The files of a shard, as ``shards.parquet`` names their parts, in the order in which they are listed."""
    return tuple(part for part in PARTS if part != "vectors" or kind != "none")


@dataclass(frozen=True)
class ShardRange:
    """Shard ``number`` holds positions ``start`` to ``stop`` − 1 of the gallery."""

    number: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def file(self, part: str) -> str:
        """The name of one of its `PARTS`."""
        return _NAMES[part].format(self.number)


def places(n: int, shards: int) -> list[ShardRange]:
    """``n`` positions cut into at most ``shards`` contiguous runs of nearly equal length, none empty."""
    shards = min(shards, n)
    bounds = [n * number // shards for number in range(shards + 1)]
    return [ShardRange(number, bounds[number], bounds[number + 1]) for number in range(shards)]
