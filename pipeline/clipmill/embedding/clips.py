"""The sounds and videos of a unit: decoded and prepared on workers, encoded piece by piece, one vector a row.

A sound is heard in windows, a video is seen in some of its pictures; a model of videos takes those together, any other one by
one. The vector of a row is the mean of the unit vectors of its pieces, normalised. Where the pictures of videos are kept, each
has a vector of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.schemas import AUDIO_SHA256, FRAME, TIMESTAMP, VIDEO_SHA256
from clipmill.embedding.arrays import whole
from clipmill.source.clip_files import open_bytes
from clipmill.source.diagnosis import Rejected
from clipmill.source.media import MEDIA, Medium, MediumName, Stream
from clipmill.source.sound import Hearing, open_sound
from clipmill.source.video import Frame, open_video

if TYPE_CHECKING:
    import torch

    from clipmill.encoders.device import Meter
    from clipmill.encoders.model import ClipModel, Pending
    from clipmill.encoders.protocol import Clips, Preparation, SoundPreparation

OpenPath = Callable[[str, str, Medium], AbstractContextManager[tuple[Stream, bytes]]]
"""(path in a column, source file, medium) to the open file and its sha256; raises Rejected."""
_FACTS: dict[MediumName, dict[str, pa.DataType]] = {
    "audio": {"duration": pa.float64(), "sample_rate": pa.int32(), AUDIO_SHA256: pa.binary(32)},
    "video": {"duration": pa.float64(), "fps": pa.float32(), "frames": pa.int32(), VIDEO_SHA256: pa.binary(32)},
}
_OF_FRAMES: dict[str, pa.DataType] = {FRAME: pa.list_(pa.int32()), TIMESTAMP: pa.list_(pa.float32())}
_USUAL_WINDOWS = 15
"""Of a clip that is heard whole, for the cutting of units: four times as many are the most."""
DEFAULT_FRAMES = 8
KEPT_SECONDS, MOST_KEPT = 1.0, 600
"""Of videos whose pictures are kept there is one for each of so many seconds, of long ones so many evenly: the prepared
pictures of a row, 90 MB at 224 pixels, travel together."""
_USUALLY_KEPT = 60


@dataclass(frozen=True)
class ClipDecoding:
    """How the sounds and videos of an input are made ready for a model: ``window`` seconds are heard at once, of the whole
    clip, or its beginning where there is none; ``frames`` pictures stand for a video, None: its pictures are kept."""

    clips: Clips
    media: tuple[MediumName, ...]
    window: float | None
    frames: int | None
    most_pixels: int

    def hearing(self, preparation: SoundPreparation) -> Hearing:
        """What of a clip is heard."""
        seconds = preparation.seconds if self.window is None else min(self.window, preparation.seconds)
        return Hearing(preparation.rate, seconds, windows=self.window is not None)

    @property
    def row_bytes(self) -> int:
        """What the prepared pieces of a row take, about."""
        size = 0
        if "audio" in self.media and self.clips.sounds:
            size += self.clips.sounds.size * (1 if self.window is None else _USUAL_WINDOWS)
        if "video" in self.media:
            size += piece_bytes(self.clips, "video") * (1 if self.clips.videos else self.frames or _USUALLY_KEPT)
        return size

    def prepare(self, medium: MediumName, stream: Stream) -> Prepared:
        """One clip. Raises Rejected."""
        return self._sound(stream) if medium == "audio" else self._video(stream)

    def _sound(self, stream: Stream) -> Prepared:
        preparation = self.clips.sounds
        assert preparation is not None  # a plan refuses sounds for a model without them
        with open_sound(stream) as sound:
            pieces = [preparation.prepare(window) for window in sound.heard(self.hearing(preparation))]
            return Prepared(_joined(pieces), {"duration": sound.duration, "sample_rate": sound.sample_rate})

    def _video(self, stream: Stream) -> Prepared:
        together = self.clips.videos
        preparation = together.pictures if together else self.clips.pictures
        assert preparation is not None
        with open_video(stream, self.most_pixels) as video:
            facts: dict[str, Any] = {"duration": video.duration, "fps": video.fps, "frames": video.frames}
            wanted = video.evenly(together.count if together else self.frames or kept_frames(video.duration))
            # not in a loop, whose variable would keep a picture while the next one is decoded
            pieces = list(map(_prepared_by(preparation), video.pictures(wanted)))
            if together:  # of a shorter video some stand for several parts of the time
                pieces = [pieces[at * len(pieces) // together.count] for at in range(together.count)]
            elif self.frames is None:
                facts |= {FRAME: wanted, TIMESTAMP: video.timestamps[wanted].tolist()}
            return Prepared(_joined(pieces), facts)


def _prepared_by(preparation: Preparation) -> Callable[[Frame], torch.Tensor]:
    return lambda frame: preparation.prepare(frame.picture)


def kept_frames(duration: float) -> int:
    """How many pictures of a video of so many seconds are kept."""
    return max(1, min(MOST_KEPT, math.ceil(duration / KEPT_SECONDS)))


@dataclass(frozen=True)
class Prepared:
    """A clip ready to be encoded: the bytes of its pieces, one after the other, and what is told of it."""

    pieces: bytes | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def _joined(pieces: list[torch.Tensor]) -> bytes:
    return b"".join(piece.contiguous().numpy().tobytes() for piece in pieces)


def piece_bytes(clips: Clips, medium: MediumName) -> int:
    """Of one prepared piece: a window, a picture, or the pictures that a model of videos takes together."""
    if medium == "audio":
        assert clips.sounds is not None
        return clips.sounds.size
    shape = clips.videos.shape if clips.videos else clips.pictures.shape if clips.pictures else (0,)
    return int(np.prod(shape))


def decode_clips(raw: pa.Table, decoding: ClipDecoding, load: OpenPath) -> pa.Table:
    """A raw unit with ``audio`` and ``video`` made ready: ``MEDIUM_pieces``, null where there is nothing to encode, the
    columns of facts as ``MEDIUM_FACT`` (``audio_duration``), and ``MEDIUM_reason`` and ``MEDIUM_detail`` of the rejected;
    without the encoded bytes."""
    for medium in decoding.media:
        columns = (raw.column(name).to_pylist() for name in (f"has_{medium}_column", f"{medium}_path", "source"))
        found = [
            _prepared(decoding, medium, data, path, source, load) if there else {}
            for data, there, path, source in zip(raw.column(medium), *columns, strict=True)
        ]
        kinds: dict[str, pa.DataType] = {
            "pieces": pa.large_binary(),
            **_FACTS[medium],
            **(_OF_FRAMES if medium == "video" and decoding.frames is None else {}),
            "reason": pa.string(),
            "detail": pa.string(),
        }
        raw = raw.drop_columns([medium, f"{medium}_path"])
        for name, kind in kinds.items():
            column = name if name.startswith(medium) else f"{medium}_{name}"
            raw = raw.append_column(column, pa.array([one.get(name) for one in found], kind))
    return raw


def _prepared(
    decoding: ClipDecoding, name: MediumName, data: pa.Scalar, path: str | None, source: str, load: OpenPath
) -> dict[str, Any]:
    medium = MEDIA[name]
    opened: AbstractContextManager[tuple[Stream, bytes]]
    try:
        if data.is_valid:
            opened = open_bytes(data)
        elif path is not None:
            opened = load(path, source, medium)
        else:
            raise Rejected(medium.missing, f"the {medium.noun} is null")
        with opened as (stream, digest):
            made = decoding.prepare(name, stream)
            return {"pieces": made.pieces, **made.facts, f"{name}_sha256": digest}
    except Rejected as rejected:
        return {"reason": rejected.reason.value, "detail": rejected.detail}


@dataclass(frozen=True)
class Encoded:
    """The ``vectors`` float32 (n, d) of the rows that have one, and which rows these are, ``present`` bool (rows). ``pieces``
    (p, d) are those that the vectors are means of, as many of each as ``counts`` (n,) says."""

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]
    pieces: NDArray[np.float32]
    counts: NDArray[np.int64]


def start_clips(model: ClipModel, decoded: pa.Table, medium: MediumName, meter: Meter) -> Callable[[], Encoded]:
    """Begins to encode the clips of a decoded unit; what is returned waits for them."""
    from clipmill.encoders.protocol import Clips

    clips = Clips.of(model.encoder)
    column = whole(decoded.column(f"{medium}_pieces"))
    present = column.is_valid().to_numpy(zero_copy_only=False)
    known = column.drop_null()
    counts = pc.binary_length(known).to_numpy(zero_copy_only=False).astype(np.int64) // piece_bytes(clips, medium)
    pending = start_pieces(model, clips, medium, b"".join(known.to_pylist()), meter)

    def encoded() -> Encoded:
        pieces = pending()
        return Encoded(means(pieces, counts), present, pieces, counts)

    return encoded


def start_pieces(
    model: ClipModel, clips: Clips, medium: MediumName, data: bytes, meter: Meter | None = None
) -> Pending:
    """Begins to encode pieces that follow each other in ``data``; what is returned waits for their unit vectors, (n, d)."""
    import torch

    pieces = torch.from_numpy(np.frombuffer(bytearray(data), np.uint8)).reshape(-1, piece_bytes(clips, medium))
    if medium == "audio":
        return model.start_sounds(pieces, meter)
    if clips.videos:
        return model.start_videos(pieces.reshape(-1, *clips.videos.shape), meter)
    return model.start_images(pieces.reshape(-1, *model.preprocessing.shape), meter)


def means(vectors: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """The normalised means of runs of unit vectors, (len(counts), d)."""
    if not len(counts):
        return np.empty((0, vectors.shape[1]), np.float32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(vectors, starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0), np.float32)
