"""The texts about each picture: the captions of its row and what was written about it, together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import MANIFEST, Shard, read_manifest, read_shards
from clipmill.storage import Location

ORIGINAL, GENERATED = "original", "generated"
_COLUMNS = ["row", "candidate", "text"]


@dataclass(frozen=True)
class Text:
    """One text about the row at a place of a unit. ``number`` is its place among the captions of the row, or the candidate."""

    at: int
    source: str
    number: int
    text: str | None

    @property
    def has_words(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.text and self.text.strip())


@dataclass(frozen=True)
class Written:
    """A dataset of texts, read for runs of rows."""

    location: Location
    manifest: TextsManifest
    manifest_sha256: str
    shards: tuple[Shard, ...]

    @staticmethod
    def open(uri: str) -> Written:
        """Raises UserError where there is none."""
        location = storage.resolve(uri)
        manifest = read_manifest(location, TextsManifest)
        shards = read_shards(location, manifest.shards_sha256)
        texts = tuple(shard for shard in shards if shard.part == "texts" and shard.rows)
        return Written(location, manifest, storage.sha256(location / MANIFEST), texts)

    def refuse_other_input(self, inputs_digest: str, input: str) -> None:
        """Raises UserError where the texts are about other files than ``input`` now holds."""
        if self.manifest.configuration.get("inputs_digest") != inputs_digest:
            about = self.manifest.configuration.get("input")
            raise UserError(
                f"--texts {self.location} were written about {about}, and not about the files that {input} now holds: write texts "
                "about these with `clipmill caption`"
            )

    def of_rows(self, first: int, last: int) -> pa.Table:
        """``row, candidate, text`` of the rows from ``first`` to ``last``, in order. Raises RunFailed for a damaged file."""
        found = [
            _read(self.location / shard.path, first, last)
            for shard in self.shards
            if shard.first_row is not None and shard.last_row is not None
            if shard.first_row <= last and shard.last_row >= first
        ]
        return pa.concat_tables(found) if found else pa.table({name: [] for name in _COLUMNS})


def _read(place: Location, first: int, last: int) -> pa.Table:
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            return pq.read_table(
                stream, columns=_COLUMNS, filters=(pc.field("row") >= first) & (pc.field("row") <= last)
            )
    except (OSError, pa.ArrowInvalid) as error:
        raise RunFailed(f"{place} cannot be read ({error}); `clipmill verify` tells more") from None


def pooled(raw: pa.Table, written: pa.Table) -> Iterator[Text]:
    """The texts of a unit's rows: of each row its captions, then what was written about it."""
    rows = raw.column("row").to_numpy()
    of_row = _by_row(written, rows)
    for at, captions in enumerate(raw.column("captions").to_pylist()):
        for number, caption in enumerate(captions or ()):
            yield Text(at, ORIGINAL, number, caption)
        for one in of_row[at]:
            yield Text(at, GENERATED, one["candidate"], one["text"])


def _by_row(written: pa.Table, rows: np.ndarray) -> Sequence[Sequence[dict[str, Any]]]:
    known = written.column("row").to_numpy() if written.num_rows else np.empty(0, np.int64)
    starts, stops = np.searchsorted(known, rows), np.searchsorted(known, rows, side="right")
    return [
        written.slice(start, stop - start).to_pylist()
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
