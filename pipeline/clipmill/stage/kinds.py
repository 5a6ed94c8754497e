"""Kinds of finished datasets: which file makes one exist, how that is read and written, and whose files may be replaced."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import DuplicatesManifest, EmbeddingsManifest, IndexManifest, SelectionManifest
from clipmill.core.text_manifests import CaptionedManifest, TextsManifest
from clipmill.datasets.manifests import MANIFEST, kind_at, read_manifest, write_manifest
from clipmill.datasets.shards import read_shards
from clipmill.stage import publication
from clipmill.storage import Location

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Kind(Generic[M]):
    """A kind of dataset, called ``name``. ``last`` is the file that is written last and makes one exist; ``read`` reads it
    and raises UserError for one that cannot be used.

    ``owns`` says of a file's name, relative to the output, whether it belongs to such a dataset: a place that holds any
    other file is never replaced. None: whatever lies beside a manifest belongs to its dataset.
    """

    name: str
    last: str
    read: Callable[[Location], M]
    owns: Callable[[str], bool] | None = None

    def is_at(self, output: Location) -> bool:
        """Whether a finished one is at ``output``. Raises UserError when anything else is there instead.

        What a run left that was killed while it published is neither: it may be replaced, and the same stage goes on.
        """
        there = self._is_there(output)
        if self.owns is not None or not there:
            published = lru_cache(maxsize=1)(lambda: publication.names_of(output))
            storage.holds_only(output, lambda name: bool(self.owns and self.owns(name)) or name in published())
        return there and not publication.is_to_be_continued(output)

    def _is_there(self, output: Location) -> bool:
        if self.last != MANIFEST:
            return storage.is_file(output / self.last)
        found = kind_at(output)
        if found not in (None, self.name):
            raise UserError(
                f"--output {output} is a dataset of kind {found!r}, which is not replaced; choose another place"
            )
        return found == self.name

    def write(self, folder: Location, document: M) -> storage.Written:
        """The last file of a dataset, which makes it exist."""
        return write_manifest(folder, document, self.last)


def manifest_kind(model: type[Any], owns: Callable[[str], bool] | None = None) -> Kind[Any]:
    """The kind of dataset that this model of ``manifest.json`` describes."""
    name = model.model_fields["kind"].default
    return Kind(name, MANIFEST, partial(_read, model), owns)


def _read(model: type[Any], location: Location) -> Any:
    """The manifest; raises RunFailed where the list of files beside it is missing or altered."""
    manifest = read_manifest(location, model)
    if hasattr(manifest, "shards_sha256"):
        read_shards(location, manifest.shards_sha256)
    return manifest


EMBEDDINGS: Kind[EmbeddingsManifest] = manifest_kind(EmbeddingsManifest)
INDEX: Kind[IndexManifest] = manifest_kind(IndexManifest)
DUPLICATES: Kind[DuplicatesManifest] = manifest_kind(DuplicatesManifest)
SELECTION: Kind[SelectionManifest] = manifest_kind(SelectionManifest)
TEXTS: Kind[TextsManifest] = manifest_kind(TextsManifest)
CAPTIONED: Kind[CaptionedManifest] = manifest_kind(CaptionedManifest)
