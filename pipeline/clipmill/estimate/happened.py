"""What was planned beside what happened."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.manifests import EmbeddingsManifest, IndexManifest
from clipmill.datasets.manifests import Shard
from clipmill.estimate.estimate import Estimate


@dataclass(frozen=True)
class Compared:
    """One figure of a plan, and the same as it was measured."""

    name: str
    planned: float
    happened: float
    unit: str

    @property
    def difference(self) -> float:
        """Planned over happened, less 1."""
        return self.planned / self.happened - 1

    def as_dict(self) -> dict[str, float]:
        return {"planned": self.planned, "happened": self.happened, "difference": round(self.difference, 4)}


def compared(plan: Estimate, manifest: EmbeddingsManifest, shards: Sequence[Shard]) -> list[Compared]:
    """The plan of a run beside its dataset: seconds of embedding, and bytes of its images and captions.

    Raises UserError for a dataset that was made in several starts: the time of one of them is not that of the whole.
    """
    happened = embedding_happened(manifest, shards)
    if "embed_seconds" not in happened:
        raise UserError(
            "--compare: that dataset was made in several starts, so it does not say how long all of it takes"
        )
    figures = {name: plan.figure(name) for name in happened}
    return [Compared(name, figures[name].value, value, figures[name].unit) for name, value in happened.items()]


def embedding_happened(manifest: EmbeddingsManifest, shards: Sequence[Shard]) -> dict[str, float]:
    """Figures of a plan as they were: bytes of images and captions, and seconds where it was made in one start."""
    found = {}
    if manifest.runs[-1].rows_encoded == manifest.counts.rows:
        found["embed_seconds"] = manifest.throughput.wall_seconds
    found["embedding_bytes"] = float(sum(shard.bytes for shard in shards if shard.part != "rejected"))
    return found


def index_happened(manifest: IndexManifest, size: int) -> dict[str, float]:
    """The same of an index: bytes of its files (``size``), and seconds where all of it was made in one start."""
    found = {"index_bytes": float(size)}
    run = manifest.runs[-1]
    if len(manifest.runs) == 1 and not run.rows_reused and run.finished is not None:
        found["index_seconds"] = (run.finished - run.started).total_seconds()
    return found
