"""A sound or a video as a query, made ready as the clips of the dataset that is searched were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import ClipmillError, UserError
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.datasets.manifests import Embeddings
from clipmill.embedding.clips import DEFAULT_FRAMES, ClipDecoding, means, piece_bytes, start_pieces
from clipmill.encoders.protocol import Clips, modalities_of
from clipmill.source.diagnosis import Rejected
from clipmill.source.media import MEDIA, MediumName, refuse_missing_packages

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel

_MAX_PIXELS = 178_956_970


def encode_clip(model: ClipModel, medium: MediumName, path: Path, embeddings: str) -> NDArray[np.float32]:
    """The unit vector (1, d) of a sound or a video. ``embeddings`` is where the dataset that is searched lies; where it is not
    there any more, the query is made ready as it is by default.

    Raises UserError for a file that is none, and for a model that encodes none.
    """
    name, known = f"--{medium} {path}", modalities_of(model.identity.preprocessing)
    if medium not in known and not (medium == "video" and "image" in known):
        raise UserError(f"{name}: the index's model {model.identity.name} encodes {' and '.join(known)} only")
    refuse_missing_packages(medium)
    clips, (window, frames) = Clips.of(model.encoder), _as_embedded(embeddings)
    decoding = ClipDecoding(clips, (medium,), window, frames, _MAX_PIXELS)
    try:
        with open(path, "rb") as stream:
            pieces = decoding.prepare(medium, stream).pieces or b""
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from None
    except Rejected as rejected:
        raise UserError(f"{name} is no {MEDIA[medium].noun} that can be searched with: {rejected.detail}") from None
    vectors = start_pieces(model, clips, medium, pieces)()
    return means(vectors, np.array([len(pieces) // piece_bytes(clips, medium)]))


def _as_embedded(embeddings: str) -> tuple[float | None, int]:
    try:
        manifest: EmbeddingsManifest = Embeddings.open(embeddings).manifest
    except ClipmillError:
        return None, DEFAULT_FRAMES
    told = manifest.configuration
    frames = told.get("frames")
    return told.get("window"), frames if isinstance(frames, int) else DEFAULT_FRAMES
