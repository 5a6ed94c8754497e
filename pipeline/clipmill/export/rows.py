"""What is exported: one part of an embeddings dataset, named by the content that it has."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.schemas import GalleryName
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.shards import Shard

SOURCE = "clipmill.source"
"""The property under which a table of another format says what it was written from."""
_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Rows:
    """A part with rows, of a published dataset."""

    dataset: Embeddings
    part: GalleryName

    @staticmethod
    def open(uri: str, part: GalleryName) -> "Rows":
        """Raises UserError where there is no such dataset, or nothing in that part of it."""
        rows = Rows(Embeddings.open(uri), part)
        if not rows.count:
            others = [name for name in ("images", "captions", "videos", "audio") if rows.dataset.count(name)]
            there = f"it has {', '.join(others)}: give --gallery {others[0]}" if others else "nothing was embedded"
            raise UserError(f"--gallery {part}: {uri} has none; {there}")
        return rows

    @property
    def key(self) -> str:
        """The same for the same content only: sha256 of the dataset's manifest, and the part."""
        return f"{self.dataset.manifest_sha256}/{self.part}"

    @property
    def count(self) -> int:
        return self.dataset.count(self.part)

    @cached_property
    def shards(self) -> list[Shard]:
        """Its files, in order of their rows."""
        return [shard for shard in self.dataset.shards_of(self.part) if shard.rows]

    @cached_property
    def schema(self) -> pa.Schema:
        schema: pa.Schema = self.dataset.open_shard(self.shards[0]).schema_arrow
        return schema.remove_metadata()

    def batches(self, shard: Shard, on_read: Callable[[int], object] = lambda rows: None) -> Iterator[pa.RecordBatch]:
        """The rows of a file; ``on_read`` is told how many were read."""
        for batch in self.dataset.open_shard(shard).iter_batches(_BATCH_ROWS):
            yield batch
            on_read(batch.num_rows)


@dataclass(frozen=True)
class Written:
    """What is there now: a table of so many ``rows``, and its ``version`` as the format counts them; ``already``: it was."""

    rows: int
    version: str
    already: bool


def refuse_other(where: str, found: str | None, rows: Rows) -> None:
    """Raises OutputDiffers for a table that was written from other content, or by others; ``found`` is its `SOURCE`."""
    what = "of other embeddings" if found else "that clipmill did not write"
    what = "of these embeddings whose rows were changed since" if found == rows.key else what
    raise OutputDiffers(
        f"{where} is a table {what}, and not {rows.dataset.location} as it is now; give another place, or --overwrite to "
        "replace its rows in one commit"
    )
