"""Forecast and actual figures, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.manifests import (
    EmbeddingsManifest,
    IndexManifest,
)
from clipmill.datasets.shards import Shard
from clipmill.estimate.estimate import Estimate


@dataclass(frozen=True)
class Compared:
    """One figure of a forecast, and what it turned out to be."""

    name: str
    planned: float
    actual: float
    unit: str

    @property
    def difference(self) -> float:
        """Planned divided by actual, minus 1."""
        return self.planned / self.actual - 1

    def as_dict(self) -> dict[str, float]:
        return {"planned": self.planned, "actual": self.actual, "difference": round(self.difference, 4)}


def compared(plan: Estimate, manifest: EmbeddingsManifest, shards: Sequence[Shard]) -> list[Compared]:
    """The plan of a run beside its dataset: seconds of embedding, and bytes of its images and captions.

    Raises UserError for a dataset that was made in several starts: the time of one of them is not that of the whole.
    """
    actual = actual_embedding(manifest, shards)
    if "embed_seconds" not in actual:
        raise UserError(
            "--compare: that dataset was made in several starts, so it does not say how long all of it takes"
        )
    figures = {name: plan.figure(name) for name in actual}
    return [Compared(name, figures[name].value, value, figures[name].unit) for name, value in actual.items()]


def actual_embedding(manifest: EmbeddingsManifest, shards: Sequence[Shard]) -> dict[str, float]:
    """Actual figures of embedding: bytes of images and captions, and seconds where it was done in one start."""
    found = {}
    if manifest.runs[-1].rows_encoded == manifest.counts.rows:
        found["embed_seconds"] = manifest.throughput.wall_seconds
    found["embedding_bytes"] = float(sum(shard.bytes for shard in shards if shard.part != "rejected"))
    return found


def actual_index(manifest: IndexManifest, size: int) -> dict[str, float]:
    """The same of an index: bytes of its files (``size``), and seconds where all of it was made in one start."""
    found = {"index_bytes": float(size)}
    run = manifest.runs[-1]
    if len(manifest.runs) == 1 and not run.rows_reused and run.finished is not None:
        found["index_seconds"] = (run.finished - run.started).total_seconds()
    return found
