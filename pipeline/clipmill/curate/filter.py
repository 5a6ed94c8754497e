"""Filtering, before the work: which rows are to be kept, and where what each strip of rows becomes lies."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import DuplicatesManifest, SelectionManifest
from clipmill.core.schemas import selection_schema
from clipmill.core.settings import FilterSettings
from clipmill.curate.prompts import Prompt
from clipmill.datasets.expressions import Expression
from clipmill.datasets.manifests import MANIFEST, Embeddings, read_manifest
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.layout import ShardRange, places
from clipmill.stage.derived import differences_of_derived
from clipmill.stage.kinds import SELECTION
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage
from clipmill.storage import Location

KEPT, DROPPED = "kept", "dropped"
STRIP_ROWS = 1 << 18
"""Rows judged by one piece, and so the most rows of a file: with what is read of them well under a gigabyte."""


@dataclass(frozen=True)
class Filter(Stage[SelectionManifest]):
    """What is to be kept, fixed before it starts."""

    name = "filter"
    kind = SELECTION
    settings: FilterSettings
    gallery: Gallery
    prompts: list[Prompt]
    duplicates: Location | None
    duplicates_sha256: str | None
    where: Expression | None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides which rows are kept."""
        return {
            "embeddings": self.gallery.dataset.manifest_sha256,
            "duplicates": self.duplicates_sha256,
            "configuration": self.settings.content(),
            "job": "filter",
            "strips": len(self.strips),
        }

    def differences(self, found: SelectionManifest) -> list[str]:
        """How a selection at the output differs from what this makes, in words."""
        inputs = {"duplicates_manifest_sha256": self.duplicates_sha256}
        return differences_of_derived(found, self.settings.content(), self.gallery.dataset.manifest_sha256, inputs)

    @property
    def outline(self) -> Outline:
        """A piece per strip of rows."""
        step = Step(doing="filtering strips of rows", total=len(self.strips), files={"strips/*.npz": 1})
        return Outline(stage=self.name, unit="rows", amount=self.gallery.n, steps=(step,))

    @cached_property
    def strips(self) -> list[ShardRange]:
        """Runs of positions, each a piece of work with a file of what is kept of it and one of what is dropped."""
        return places(self.gallery.n, -(-self.gallery.n // STRIP_ROWS))

    def strip(self, place: ShardRange) -> Location:
        """Where it is told what became of the rows of a strip."""
        return self.staging.folder / "strips" / f"{place.number:05d}.npz"

    @property
    def encoded(self) -> Location:
        """Where the vectors of the prompts lie."""
        return self.staging.folder / "prompts.npz"

    def schema_of(self, part: str) -> pa.Schema:
        """The columns of what is kept, or of what is dropped, which has the reasons besides."""
        why = [pa.field("why", pa.list_(pa.string()), nullable=False)] if part == DROPPED else []
        return pa.schema([*self.schema, *why])

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of what is kept."""
        like = self.gallery.open_file(0).schema_arrow
        kept = [like.field(name) for name in self.gallery.kept_columns]
        return selection_schema(kept, len(self.prompts))


def make_filter(settings: FilterSettings) -> Filter:
    """Opens what is to be filtered. Raises UserError for conditions that it does not allow, before any work."""
    if not (images := Embeddings.open(settings.embeddings)).count("images"):
        raise UserError(
            f"{images.location} has no images, and filter keeps and drops images: embed some, or use `clipmill dedup`"
        )
    gallery = Gallery(images, "images")
    prompts = [Prompt.parse(given) for given in settings.prompt]
    if settings.min_clip_score is None and not prompts and not settings.duplicates and not settings.where:
        raise UserError("nothing to filter by: give --min-clip-score, --prompt, --duplicates or --where")
    if settings.min_clip_score is not None and not gallery.dataset.count("captions"):
        raise UserError(f"--min-clip-score: {settings.embeddings} has no captions, so its images have no clip score")
    if prompts and gallery.dataset.manifest.model is None:
        raise UserError(
            f"--prompt: {settings.embeddings} was made of imported vectors, so which model encodes a text is not known"
        )
    duplicates, digest = None, None
    if settings.duplicates is not None:
        duplicates = storage.resolve(settings.duplicates)
        digest = _check_duplicates(duplicates, gallery)
    made = Filter(settings, gallery, prompts, duplicates, digest, None)
    if settings.where is None:
        return made
    return replace(made, where=Expression.parse(settings.where, made.schema, "--where"))


def _check_duplicates(location: Location, gallery: Gallery) -> str:
    manifest = read_manifest(location, DuplicatesManifest)
    if manifest.gallery != "images":
        raise UserError(f"--duplicates {location} are of {manifest.gallery}; rows are dropped by duplicates of images")
    if manifest.embeddings_manifest_sha256 != gallery.dataset.manifest_sha256:
        raise UserError(
            f"--duplicates {location} were found in {manifest.embeddings}, or before it was made anew, and not in "
            f"{gallery.dataset.location}; run `clipmill dedup` on these embeddings"
        )
    return storage.sha256(location / MANIFEST)
