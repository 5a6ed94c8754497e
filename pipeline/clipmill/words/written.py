"""Texts that `clipmill caption` or `clipmill ask` wrote, read for runs of rows."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import TEXTS
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import MANIFEST, read_manifest
from clipmill.datasets.shards import Shard, read_shards
from clipmill.storage import Location

_SCHEMA = pa.schema([TEXTS.field(name) for name in ("row", "candidate", "text")])


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
                f"--texts {self.location} were written about {about}, and not about the files that {input} now holds: write "
                "texts about these with `clipmill caption`"
            )

    def of_rows(self, first: int, last: int) -> pa.Table:
        """``row, candidate, text`` of the rows from ``first`` to ``last``, in order. Raises RunFailed for a damaged file."""
        found = [
            _read(shard.at(self.location), first, last)
            for shard in self.shards
            if shard.first_row is not None and shard.last_row is not None
            if shard.first_row <= last and shard.last_row >= first
        ]
        return pa.concat_tables(found) if found else _SCHEMA.empty_table()

    def all(self) -> pa.Table:
        """Those of all rows."""
        return self.of_rows(0, (1 << 63) - 1)


def _read(place: Location, first: int, last: int) -> pa.Table:
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            return pq.read_table(
                stream, columns=_SCHEMA.names, filters=(pc.field("row") >= first) & (pc.field("row") <= last)
            )
    except (OSError, pa.ArrowInvalid) as error:
        raise RunFailed(f"{place} cannot be read ({error}); `clipmill verify` tells more") from None
