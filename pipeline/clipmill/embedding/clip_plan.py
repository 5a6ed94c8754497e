"""Which columns of an input a model encodes, and how it is made ready for that: refused before anything is read."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import EmbedSettings
from clipmill.embedding.clips import DEFAULT_FRAMES, ClipDecoding
from clipmill.encoders.protocol import modalities_of
from clipmill.source.columns import Columns
from clipmill.source.media import CLIPS, MediumName, refuse_missing_packages
from clipmill.source.names import ITEMS

if TYPE_CHECKING:
    from clipmill.encoders.protocol import Clips

__all__ = ["ClipDecoding", "clip_decoding_of", "encoded_columns"]

_LOG = logging.getLogger(__name__)


def encoded_columns(settings: EmbedSettings, columns: Columns, identity: ModelIdentity) -> Columns:
    """The columns without those of sounds and videos that nobody named and this model does not encode, or, of videos beside
    pictures, would encode picture by picture; a notice tells of them. Where captions alone would be left, all columns are
    meant.

    Raises UserError where the input has a column of another kind that the model does not encode, and where what decodes
    sounds or videos is not installed.
    """
    known = modalities_of(identity.preprocessing)
    for medium in columns.clips:
        fits = medium in known or (medium == "video" and "image" in known and columns.image_column is None)
        others = [columns.image_column, *(columns.column_of(one) for one in CLIPS if one != medium)]
        if not fits and getattr(settings, f"{medium}_column") is None and any(others):
            _LOG.warning(
                "column %s holds %ss and is not embedded: %s does not encode them as such; to have them, --%s-column %s",
                *(columns.column_of(medium), ITEMS[medium], identity.name, medium, columns.column_of(medium)),
            )
            columns = _without(columns, medium)
    _refuse_unknown(columns, identity)
    for medium in columns.clips:
        refuse_missing_packages(medium)
    return columns


def _without(columns: Columns, medium: MediumName) -> Columns:
    if medium == "audio":
        return replace(columns, audio_column=None, audio_kind=None)
    return replace(columns, video_column=None, video_kind=None)


def _refuse_unknown(columns: Columns, identity: ModelIdentity) -> None:
    known = modalities_of(identity.preprocessing)
    wanted = [("image", columns.image_column, "images"), ("text", columns.caption_column, "texts")]
    wanted += [(medium, columns.column_of(medium), f"{ITEMS[medium]}s") for medium in columns.clips]
    for modality, column, what in wanted:
        if column is not None and modality not in known and not (modality == "video" and "image" in known):
            raise UserError(
                f"--model {identity.name} encodes {' and '.join(known)} only, and column {column} of the input holds "
                f"{what}: give an input without it, or another model"
            )


def clip_decoding_of(settings: EmbedSettings, columns: Columns, clips: Clips | None) -> ClipDecoding | None:
    """How the sounds and videos of an input are decoded; None where it has none. Raises UserError for an option that has
    nothing to act on."""
    if settings.window is not None and columns.audio_column is None:
        raise UserError("--window is for sounds, and this input has no column of them; leave it out")
    if settings.frames is not None and columns.video_column is None:
        raise UserError("--frames is for videos, and this input has no column of them; leave it out")
    if clips is None or not columns.clips:
        return None
    if settings.frames is not None and clips.videos is not None:
        raise UserError(
            f"--frames is for models of pictures: this one sees {clips.videos.count} of a video; leave it out"
        )
    frames = None if settings.frames == "keep" else settings.frames or DEFAULT_FRAMES
    return ClipDecoding(clips, columns.clips, settings.window, frames, settings.max_image_pixels)
