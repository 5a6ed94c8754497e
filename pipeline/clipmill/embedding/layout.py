"""The parts of an embeddings dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from clipmill.core.schemas import REJECTED, captions_schema, images_schema
from clipmill.stage.units.layout import Part

PARTS = ("images", "captions", "rejected")


@dataclass(frozen=True)
class Parts:
    """What the tables of an embeddings dataset hold: vectors of ``dimension``, the columns ``kept`` from the source, thumbnails
    or none."""

    dimension: int
    kept: Sequence[pa.Field] = ()
    thumbnails: bool = False

    def schema(self, name: str) -> pa.Schema:
        """The schema of one of them."""
        if name == "images":
            return images_schema(self.dimension, self.kept, thumbnails=self.thumbnails, hashes=True)
        return captions_schema(self.dimension) if name == "captions" else REJECTED

    @property
    def all(self) -> tuple[Part, ...]:
        """In their order."""
        return tuple(Part(name, self.schema(name)) for name in PARTS)
