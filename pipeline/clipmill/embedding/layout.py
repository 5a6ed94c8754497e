"""The parts of an embeddings dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.schemas import REJECTED, audio_schema, captions_schema, images_schema, videos_schema
from clipmill.source.media import CLIPS, MEDIA, MediumName
from clipmill.stage.units.layout import Part

PARTS = ("images", "audio", "videos", "captions", "rejected")
"""In their order. ``audio`` and ``videos`` are there where the input has them."""
CLIP_PARTS = tuple(MEDIA[medium].part for medium in CLIPS)


def parts_of(manifest: EmbeddingsManifest) -> tuple[str, ...]:
    """The parts that a dataset has."""
    return tuple(part for part in PARTS if part not in CLIP_PARTS or part in manifest.counts.clips)


@dataclass(frozen=True)
class Parts:
    """What the tables of an embeddings dataset hold: vectors of ``dimension``, the columns ``kept`` from the source, thumbnails
    or none."""

    dimension: int
    kept: Sequence[pa.Field] = ()
    thumbnails: bool = False
    clips: tuple[MediumName, ...] = ()
    frames: bool = False
    """Whether each picture of a video has a vector of its own."""

    def schema(self, name: str) -> pa.Schema:
        """The schema of one of them."""
        if name == "images":
            return images_schema(self.dimension, self.kept, thumbnails=self.thumbnails, hashes=True)
        if name == "audio":
            return audio_schema(self.dimension, self.kept)
        if name == "videos":
            return videos_schema(self.dimension, self.kept, frames=self.frames)
        return captions_schema(self.dimension) if name == "captions" else REJECTED

    @property
    def all(self) -> tuple[Part, ...]:
        """In their order."""
        absent = {MEDIA[medium].part for medium in CLIPS if medium not in self.clips}
        return tuple(Part(name, self.schema(name)) for name in PARTS if name not in absent)
