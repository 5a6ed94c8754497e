"""Finding near-duplicates, before the work: what is to be compared, how, and where the results of each piece lie."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clipmill.core.errors import UserError
from clipmill.core.manifests import DuplicatesManifest
from clipmill.core.settings import DedupSettings
from clipmill.curate.method import Choice, cells_for, choose_method
from clipmill.curate.worth import worth_columns
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.layout import ShardRange, places
from clipmill.stage.derived import differences_of_derived
from clipmill.stage.kinds import DUPLICATES
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage
from clipmill.storage import Location

STRIP_ROWS = 32_768
"""Vectors compared at a time: two such runs in float32 fit in a quarter of a gigabyte at 512 dimensions."""
_CLUSTERS_VERSION = 1
"""Raised when the same settings would find other pairs by clusters: work of another version is not continued."""


@dataclass(frozen=True)
class Dedup(Stage[DuplicatesManifest]):
    """A search for near-duplicates, fixed before it starts."""

    name = "dedup"
    kind = DUPLICATES
    settings: DedupSettings
    gallery: Gallery
    choice: Choice

    @property
    def by_clusters(self) -> bool:
        return self.choice.method == "clusters"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for pairs that one start found to be of use to another."""
        clusters = {"clusters": {"version": _CLUSTERS_VERSION, "cells": self.cells}} if self.by_clusters else {}
        complete = {"linkage": self.settings.linkage} if self.settings.linkage != "chain" else {}
        return {
            "job": "dedup",
            "embeddings": self.gallery.dataset.manifest_sha256,
            "configuration": self.settings.content(),
            "strips": len(self.strips),
            **clusters,
            **complete,
        }

    def differences(self, found: DuplicatesManifest) -> list[str]:
        """How near-duplicates at the output differ from what this finds, in words. Where the method was left to us, those of
        either are what was asked for."""
        told = differences_of_derived(found, self.settings.content(), self.gallery.dataset.manifest_sha256)
        if found.linkage != self.settings.linkage:
            told.append(f"linkage: was {found.linkage}, now {self.settings.linkage}")
        if self.settings.method not in ("auto", found.method):
            told.append(f"method: was {found.method}, now {self.settings.method}")
        return told

    @property
    def outline(self) -> Outline:
        """A piece per strip, and by clusters a piece per strip or block for each of four steps."""
        strips = len(self.strips)
        if not self.by_clusters:
            step = Step(doing="comparing strips of vectors", total=strips, files={"strips/*.npz": 1})
            return Outline(stage=self.name, unit="strips", steps=(step,))
        steps = (
            Step(doing="drawing rows at random", total=strips, files={"taken/*.npz": 1}),
            Step(doing="comparing rows drawn to tune and measure with", total=strips, files={"drawn/*.npz": 1}),
            Step(doing="grouping rows by cells", total=strips, files={"grouped/*.npz": 1}),
            Step(doing="comparing rows within cells", total=self.blocks, files={"blocks/*.npz": 1}),
        )
        return Outline(stage=self.name, unit="pieces", steps=steps)

    @cached_property
    def strips(self) -> list[ShardRange]:
        """Runs of positions: pieces of what is read of the gallery. In the exact method each is compared with itself and with
        all after it."""
        return places(self.gallery.n, -(-self.gallery.n // STRIP_ROWS))

    @property
    def cells(self) -> int:
        """Clusters that are asked for."""
        return cells_for(self.gallery.n)

    @property
    def blocks(self) -> int:
        """Runs of cells that are compared at a time: about as many rows are at home in one as are in a strip."""
        return min(len(self.strips), self.cells)

    @property
    def rotation(self) -> Location:
        return self.staging.folder / "rotation.npz"

    def strip(self, place: ShardRange) -> Location:
        """Where the pairs lie whose first row is in this strip."""
        return self._piece("strips", place.number)

    def taken(self, place: ShardRange) -> Location:
        """Where the rows of this strip lie that were drawn at random."""
        return self._piece("taken", place.number)

    @property
    def plan(self) -> Location:
        """Where the cells lie, and the rows that were drawn to tune and to measure with."""
        return self.staging.folder / "cells.npz"

    @property
    def margins(self) -> Location:
        return self.staging.folder / "margins.npz"

    def drawn(self, place: ShardRange) -> Location:
        """Where the pairs lie of the drawn rows with the rows of this strip."""
        return self._piece("drawn", place.number)

    def grouped(self, place: ShardRange) -> Location:
        """Where it is told what `vectors` holds of this strip."""
        return self._piece("grouped", place.number)

    def vectors(self, number: int) -> Location:
        """Where the vectors of a strip lie once more, by blocks."""
        return self.staging.folder / "grouped" / f"{number:05d}.vectors"

    def block(self, number: int) -> Location:
        """Where the pairs lie that were found in the cells of this block."""
        return self._piece("blocks", number)

    def widths(self, number: int) -> Location:
        """Where the least cosines lie of a batch of groups."""
        return self._piece("widths", number)

    def _piece(self, folder: str, number: int) -> Location:
        return self.staging.folder / folder / f"{number:05d}.npz"


def make_dedup(settings: DedupSettings) -> Dedup:
    """Opens the embeddings. Raises UserError for a rule by which none of their rows could be chosen, and for pictures that were
    kept of videos: those of one video are alike, and it would be dropped for itself."""
    gallery = Gallery.open(settings.embeddings, settings.gallery)
    if gallery.has_frames:
        raise UserError(
            f"--gallery videos: {settings.embeddings} holds the pictures of videos one by one (--frames keep); compare "
            "embeddings that were made without it, which have a vector for each video"
        )
    worth_columns(gallery, settings.keep)
    return Dedup(settings, gallery, choose_method(settings.method, gallery.n, settings.threshold))
