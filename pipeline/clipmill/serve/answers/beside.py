"""What lies beside an index, in the embeddings that it was made of: small pictures, and the captions of pictures."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill.core.errors import ClipmillError
from clipmill.core.manifests import IndexManifest
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.shards import Shard
from clipmill.report.results.page import picture_uri
from clipmill.report.results.pictures import Pictures, pictures_of
from clipmill.serve.answers.recent import Recent

_MOST_CAPTIONS = 20
_PATIENCE = 3.0
"""Seconds to wait while others read pictures: from a store that does not answer, no request waits long for those of others."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture, or why there is ``none``."""

    data: bytes | None
    none: str | None = None


def shown(picture: Picture | None) -> dict[str, str | None]:
    """A picture as answers have it: a data: URI, or why there is none."""
    if picture is None:
        return {"thumbnail": None, "no_thumbnail": "it was not read in time; ask again"}
    uri = picture_uri(picture.data)
    return {"thumbnail": uri, "no_thumbnail": None if uri else picture.none or "there is no picture of it"}


@dataclass
class Beside:
    """Pictures and captions of the rows of one index, read when they are asked for."""

    manifest: IndexManifest
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def pictures(self, rows: Sequence[int]) -> dict[int, Picture]:
        """A picture of each row, or why there is none."""
        return self._pictures.get(rows)

    def captions(self, rows: Sequence[int]) -> dict[int, list[str]]:
        """The captions of pictures, at most some of each."""
        return self._captions.get(rows)

    @property
    def has_thumbnails(self) -> bool:
        """Whether the images were embedded with small pictures."""
        opened = self._opened
        shards = opened.shards_of("images") if isinstance(opened, Embeddings) else []
        try:
            return bool(shards) and "thumbnail" in opened.open_shard(shards[0]).schema_arrow.names  # type: ignore[union-attr]
        except (ClipmillError, OSError):
            return False

    @cached_property
    def _pictures(self) -> Recent[Picture]:
        return Recent(self._read_pictures, lambda picture: picture.data is not None, _PATIENCE)

    @cached_property
    def _captions(self) -> Recent[list[str]]:
        return Recent(self._read_captions, patience=_PATIENCE)

    @property
    def _opened(self) -> Embeddings | str:
        """The embeddings, or why they cannot be used. What could not be read is tried again the next time."""
        if "_dataset" not in self.__dict__:
            try:
                dataset = Embeddings.open(self.manifest.embeddings)
            except ClipmillError as error:
                return f"its embeddings cannot be read: {error}"
            if dataset.manifest_sha256 != self.manifest.embeddings_manifest_sha256:
                return "the embeddings were made anew since the index was built"
            self.__dict__["_dataset"] = dataset
        known: Embeddings = self.__dict__["_dataset"]
        return known

    def _read_pictures(self, rows: Sequence[int]) -> dict[int, Picture]:
        opened = self._opened
        if isinstance(opened, str):
            return {row: Picture(None, opened) for row in rows}
        with self._reading:
            found: Pictures = pictures_of(opened, rows)
        made = {row: Picture(None, found.missing.get(row)) for row in rows}
        return made | {row: Picture(data) for row, data in found.found.items()}

    def _read_captions(self, rows: Sequence[int]) -> dict[int, list[str]]:
        opened = self._opened
        if isinstance(opened, str):
            return {}
        found: dict[int, list[str]] = {row: [] for row in rows}
        wanted = sorted(rows)
        try:
            with self._reading:
                for shard in opened.shards_of("captions"):
                    for row, caption in _captions_in(opened, shard, wanted):
                        if caption and len(found[row]) < _MOST_CAPTIONS:
                            found[row].append(caption)
        except (ClipmillError, OSError):
            return {}
        return found


def _captions_in(dataset: Embeddings, shard: Shard, rows: list[int]) -> list[tuple[int, str | None]]:
    if shard.first_row is None or shard.last_row is None:
        return []
    inside = [row for row in rows if shard.first_row <= row <= shard.last_row]
    if not inside:
        return []
    parquet = dataset.open_shard(shard)
    values = pa.array(inside, pa.int64())
    pairs: list[tuple[int, str | None]] = []
    for group in range(parquet.num_row_groups):
        if _may_hold(parquet, group, inside):
            table = parquet.read_row_group(group, columns=["row", "caption"])
            table = table.filter(pc.is_in(table.column("row"), value_set=values))
            pairs += zip(table.column("row").to_pylist(), table.column("caption").to_pylist(), strict=True)
    return pairs


def _may_hold(parquet: pq.ParquetFile, group: int, rows: list[int]) -> bool:
    column = parquet.schema_arrow.get_field_index("row")
    statistics = parquet.metadata.row_group(group).column(column).statistics
    return statistics is None or any(statistics.min <= row <= statistics.max for row in rows)
