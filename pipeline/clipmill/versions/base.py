"""The version that readers see, as what the next one grows from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from clipmill import storage
from clipmill.core.manifests import IndexManifest, ModelIdentity
from clipmill.core.schemas import IMAGE_SHA256
from clipmill.core.settings import OutputSettings, Settings
from clipmill.datasets.manifests import MANIFEST, Embeddings, read_manifest
from clipmill.report.write import REPORT_FILE, read_report
from clipmill.storage import Location
from clipmill.versions.gates import Judged
from clipmill.versions.place import Place
from clipmill.versions.pointer import Seen
from clipmill.versions.takedown import Takedown
from clipmill.versions.version import Version, read_version


@dataclass(frozen=True)
class Base:
    """A published version, opened."""

    place: Place
    version: Version
    embeddings: Embeddings

    @staticmethod
    def read(place: Place, seen: Seen) -> "Base | None":
        """What the pointer points to; None where nothing is published. Raises UserError where it is gone."""
        if seen.name is None:
            return None
        version = read_version(place, seen.name)
        return Base(place, version, Embeddings.open((place.version(seen.name) / "embeddings").uri))

    @property
    def _folder(self) -> Location:
        return self.place.version(self.version.name)

    @property
    def index(self) -> Location | None:
        folder = self._folder / "index"
        return folder if storage.is_file(folder / MANIFEST) else None

    @cached_property
    def judged(self) -> Judged:
        """Its manifests and its report, to compare with."""
        report = self._folder / "report"
        return Judged(
            self.embeddings.manifest,
            read_manifest(self.index, IndexManifest) if self.index else None,
            read_report(report) if storage.is_file(report / REPORT_FILE) else None,
        )

    @property
    def met_target(self) -> bool:
        """Whether its index reached the recall that it was tuned for, by what it could be asked."""
        return self.judged.index is not None and self.judged.index.target_met is not False


def key_of(fingerprint: Mapping[str, Any], settings: Mapping[str, Settings | None], removed: Takedown) -> str:
    """sha256 of all that decides what is in a version, whichever way it is made. ``fingerprint`` is that of embedding the
    whole input; ``settings`` are those of the stages after it by name."""
    stages = {name: one.recorded() if one else None for name, one in settings.items()}
    decides = {"embed": dict(fingerprint), "removed": removed.sha256, **stages}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def reason_to_reencode(
    base: Embeddings | None,
    model: ModelIdentity,
    configuration: Mapping[str, Any],
    columns: Mapping[str, Any],
    images: pa.Schema,
    removed: Takedown,
) -> str:
    """Why rows of a version cannot be kept, in words; empty where they can. ``images`` is the schema that is wanted,
    ``removed`` what was taken down."""
    if base is None:
        return "there is no version to grow from"
    manifest = base.manifest
    if manifest.model is None:
        return "the version before holds imported vectors"
    if differences := manifest.model.differences(model):
        return f"the model is another ({', '.join(one.partition(':')[0] for one in differences)})"
    for key, value in {**dict.fromkeys(OutputSettings.LATER), **configuration}.items():
        if manifest.configuration.get(key) != value:
            return f"{key.replace('_', ' ')} was {manifest.configuration.get(key)} and is {value}"
    if configuration.get("limit") is not None:
        return "with a limit, which rows are the first changes with the input"
    if manifest.configuration.get("columns") != dict(columns):
        return f"the columns were {manifest.configuration.get('columns')} and are {dict(columns)}"
    if removed.contents and not manifest.has_hashes:
        return "contents were taken down, and the version before does not know those of its pictures"
    first = base.open_shard(base.shards_of("images")[0]).schema_arrow
    if not _without_hashes(first).equals(_without_hashes(images)):
        return "kept columns have other types"
    return ""


def _without_hashes(images: pa.Schema) -> pa.Schema:
    """Rows of a version that kept no hashes stay, and those that are added have none then either."""
    return pa.schema([field for field in images if field.name != IMAGE_SHA256])
