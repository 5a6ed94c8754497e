"""The rows that are searched: one part of an embeddings dataset as positions 0 to n − 1, in dataset order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.schemas import FRAME, TIMESTAMP, GalleryName
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.datasets.shards import Shard

PartName = GalleryName
_READ_ROWS = 8192
_OTHERS: tuple[PartName, ...] = ("images", "videos", "audio")
"""What captions belong to, the first that there is."""


@dataclass(frozen=True)
class Gallery:
    """The images, sounds, videos or captions of a dataset, read by runs of positions and never whole."""

    dataset: Embeddings
    part: PartName

    @staticmethod
    def open(uri: str, part: PartName) -> "Gallery":
        """Opens a part that has rows; UserError when there is no such dataset or nothing in it to index."""
        gallery = Gallery(Embeddings.open(uri), part)
        if gallery.n == 0:
            other = next((one for one in (*_OTHERS, "captions") if gallery.dataset.count(one)), None)
            advice = f"; it has {other}: --gallery {other}" if other else ""
            if reasons := gallery.dataset.manifest.counts.rejected_by_reason:
                told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
                advice += f"; rejected were: {told} (each with its reason in {uri}/rejected)"
            raise UserError(f"{uri} has no {part}, so there is nothing to index{advice}")
        return gallery

    @cached_property
    def files(self) -> list[Shard]:
        return [shard for shard in self.dataset.shards_of(self.part) if shard.rows]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Position of each file's first row, and n at the end."""
        return np.cumsum([0, *(file.rows for file in self.files)], dtype=np.int64)

    @property
    def n(self) -> int:
        return int(self.starts[-1])

    @property
    def dimension(self) -> int:
        return self.dataset.manifest.dimension

    @property
    def opposite(self) -> "Gallery":
        """The other side: captions, or what they belong to."""
        if self.part != "captions":
            return Gallery(self.dataset, "captions")
        return Gallery(self.dataset, next((one for one in _OTHERS if self.dataset.count(one)), "images"))

    @property
    def kept_columns(self) -> list[str]:
        """Columns kept from the source: not of captions, which are joined to the others by ``row`` only."""
        return list(self.dataset.manifest.kept_columns) if self.part != "captions" else []

    @property
    def row_columns(self) -> list[str]:
        """The columns that travel with a row into the index: identity, caption, and those kept from the source."""
        if self.part == "captions":
            return ["row", "id", "caption_index", "caption"]
        of_frames = [FRAME, TIMESTAMP] if self.has_frames else []
        return ["row", "id", *of_frames, *self.kept_columns]

    @property
    def has_frames(self) -> bool:
        """Whether several rows of it are pictures of one video."""
        return self.part == "videos" and self.dataset.manifest.keeps_frames

    def open_file(self, number: int, *, pre_buffer: bool = True) -> pq.ParquetFile:
        """As `Embeddings.open_shard`."""
        return self.dataset.open_shard(self.files[number], pre_buffer=pre_buffer)

    def batches(self, start: int, stop: int, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The positions ``start`` to ``stop`` − 1 in order, at most ``batch_rows`` at a time."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        for number in range(first, len(self.files)):
            position = int(self.starts[number])
            if position >= stop:
                return
            parquet = self.open_file(number)
            groups: list[int] = []
            skipped = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if position + rows <= start and not groups:
                    skipped += rows
                elif position < stop:
                    groups.append(group)
                position += rows
            position = int(self.starts[number]) + skipped
            for few in _runs(parquet, groups, batch_rows):
                for batch in parquet.iter_batches(batch_rows, row_groups=few, columns=list(columns)):
                    inside = batch.slice(max(0, start - position), max(0, stop - max(start, position)))
                    position += batch.num_rows
                    if inside.num_rows:
                        yield self.dataset.as_known(inside)

    def vectors(self, rows: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """The position of the first of at most ``rows`` vectors, and these (rows, d), one block after the other."""
        position = 0
        for batch in self.batches(0, self.n, ["embedding"], rows):
            yield position, vectors_of(batch.column("embedding"))
            position += batch.num_rows

    def vectors_at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, d) at ``positions`` (n,); row groups that hold none of them are not read."""
        found = np.empty((len(positions), self.dimension), np.float32)
        order = np.argsort(positions, kind="stable")
        at = positions[order]
        for start in np.unique(at // _READ_ROWS) * _READ_ROWS:
            stop = min(int(start) + _READ_ROWS, self.n)
            batches = self.batches(int(start), stop, ["embedding"], _READ_ROWS)
            vectors = np.concatenate([vectors_of(batch.column("embedding")) for batch in batches])
            inside = slice(*np.searchsorted(at, [start, stop]))
            found[order[inside]] = vectors[at[inside] - start]
        return found


def _runs(parquet: pq.ParquetFile, groups: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Row groups in runs that hold ``rows`` rows or little more: Arrow fetches all that it is asked for at once."""
    run: list[int] = []
    held = 0
    for group in groups:
        run.append(group)
        held += parquet.metadata.row_group(group).num_rows
        if held >= rows:
            yield run
            run, held = [], 0
    if run:
        yield run
