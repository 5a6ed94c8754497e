"""One number of an estimate, with its range and what was assumed for it."""

from dataclasses import dataclass

TITLES = {
    "embed_seconds": "time to embed",
    "index_seconds": "time to index",
    "wall_seconds": "time in all",
    "gpu_hours": "GPU hours",
    "feeding_cores": "cores to feed the GPUs",
    "core_hours": "core hours",
    "embedding_bytes": "embeddings, on disk or S3",
    "staging_bytes": "staging meanwhile",
    "index_memory_bytes": "index in memory",
    "index_bytes": "index, on disk or S3",
    "index_shards": "index shards",
    "object_store_bytes": "object store",
    "cost": "cost",
}
"""What each number is called to the user."""


@dataclass(frozen=True)
class Figure:
    """``value`` in ``unit``, between ``low`` and ``high``; ``basis`` says what it follows from."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    basis: str

    def as_dict(self) -> dict[str, float | str]:
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "basis": self.basis}


def exact(name: str, value: float, unit: str, basis: str) -> Figure:
    """A number that follows from counts alone."""
    return Figure(name, value, value, value, unit, basis)
