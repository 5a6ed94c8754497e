"""What became of an input, as manifests count it; and the base of all that is written to a manifest."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, StringConstraints, model_serializer

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """Base of what is written to a manifest. Unknown keys of a newer version are refused by ``schema_version``. Fields of
    ``LATER`` came after manifests had been made without them: where they say nothing they are left out, so that older readers
    know the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        plain = {
            name for name in self.LATER if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        }
        return {name: value for name, value in values.items() if name not in plain} if plain else values


_CALLED = {"audio": "sounds", "videos": "videos"}
"""The parts of an embeddings dataset whose items take time, and what these are called."""


class ClipCounts(Record):
    """What became of sounds or videos: ``rows`` = embedded + rejected + rows of files without such a column. ``kept_frames``
    are the pictures of all videos, where each has a vector of its own."""

    LATER: ClassVar[tuple[str, ...]] = ("kept_frames",)
    embedded: int = 0
    rejected: int = 0
    without_column: int = 0
    kept_frames: int | None = None

    @property
    def vectors(self) -> int:
        """Rows of the part."""
        return self.embedded if self.kept_frames is None else self.kept_frames


class Counts(Record):
    """What became of the input: ``rows`` = images + rejected images + rows of files without an image column. ``clips`` has the
    same of the parts ``audio`` and ``videos``, where there are such."""

    LATER: ClassVar[tuple[str, ...]] = ("clips",)
    rows: int = 0
    images: int = 0
    captions: int = 0
    rejected_images: int = 0
    rejected_captions: int = 0
    without_image_column: int = 0
    rejected_by_reason: dict[str, int] = {}
    clips: dict[str, ClipCounts] = {}

    @property
    def embedded(self) -> dict[str, int]:
        """What was embedded, by what it is called; without images where there are other things beside captions."""
        clips = {_CALLED[part]: one.embedded for part, one in self.clips.items()}
        images = {} if clips and not self.images else {"images": self.images}
        return {**images, **clips, "captions": self.captions}

    @property
    def in_words(self) -> str:
        """``12 images and 24 captions``."""
        *first, last = (f"{count:,} {what}" for what, count in self.embedded.items())
        return f"{', '.join(first)} and {last}"

    @property
    def rejected(self) -> int:
        """Of all kinds."""
        return self.rejected_images + self.rejected_captions + sum(one.rejected for one in self.clips.values())
