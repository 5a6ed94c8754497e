"""Encoded video to single pictures with their times, or the reason why not.

FFmpeg decodes, by PyAV. The packets of a file are read first without decoding them: they tell when every picture is shown,
whatever the rate says or how it varies, and from where a picture can be decoded. So of an hour a few seconds are decoded.

Pictures are turned as the file says they are to be shown. Pixels stay as they are stored, also where they are not square.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import BEGINNING_BYTES, Rejected
from clipmill.source.media import VIDEO, Stream, beginning_of, refuse_other, size_of, unreadable
from clipmill.source.video_files import ends_early, signature
from clipmill.source.video_track import Track

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 36_000_000
"""Of a picture of a video, 8192×4320 and a little: decoders hold up to seventeen of them."""
_LARGE = 16_000_000
"""Pixels from which on a decoder is not kept for longer than it is needed: to open the file again takes less than to decode one
such picture."""
_VP8_SHOWN = 0x10
_QUARTERS = 90


@dataclass(frozen=True)
class Frame:
    """One picture of a video: its number, the second at which it is shown, and its pixels, uint8 RGB (3, height, width)."""

    number: int
    timestamp: float
    picture: torch.Tensor


@dataclass(frozen=True)
class Video:
    """An open video. ``times`` (n) are when its pictures are shown, ascending, in units of ``unit`` seconds; ``starts`` those
    from which decoding can begin; ``end`` is when the last is no longer shown."""

    kind: str
    times: NDArray[np.int64]
    starts: NDArray[np.int64]
    end: int
    unit: Fraction
    origin: int
    track: Track
    most_pixels: int

    @property
    def frames(self) -> int:
        """How many pictures it has."""
        return len(self.times)

    @property
    def duration(self) -> float:
        """Seconds from the first picture to the end of the last."""
        return float((self.end - int(self.times[0])) * self.unit)

    @property
    def fps(self) -> float:
        """Pictures a second, on average."""
        return self.frames / self.duration if self.duration > 0 else 0.0

    @cached_property
    def timestamps(self) -> NDArray[np.float64]:
        """Seconds from the start of the file at which each picture is shown, (n,)."""
        return np.array([float((int(time) - self.origin) * self.unit) for time in self.times])

    def evenly(self, count: int) -> list[int]:
        """The numbers of the pictures that are shown in the middle of each of ``count`` equal parts of the time, ascending and
        each once: fewer where there are fewer."""
        first = int(self.times[0])
        span = self.end - first
        middles = [first + span * (2 * at + 1) // (2 * count) for at in range(count)]
        found = np.searchsorted(self.times, middles, side="right") - 1
        return sorted(set(found.tolist()))

    def pictures(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Those pictures, whose numbers ascend, each decoded when it is asked for. Raises Rejected for a damaged one.

        None is kept here while the next one is decoded, nor, of large ones, is the decoder where it would begin elsewhere
        for the next: it may hold seventeen pictures.
        """
        wanted = [int(self.times[number]) for number in numbers]
        starts = [
            int(self.starts[max(0, int(np.searchsorted(self.starts, time, side="right")) - 1)]) for time in wanted
        ]
        decoded: Iterator[Any] | None = None
        for at, number in enumerate(numbers):
            ends = at + 1 == len(wanted) or starts[at + 1] > wanted[at]
            with _told(self.kind):
                if decoded is None:
                    decoded = self.track.decoded_from(starts[at])
                frame = self._shown_at(wanted[at], decoded)
                if ends:
                    decoded = None
                    if frame.width * frame.height >= _LARGE:
                        self.track.let_go()
                picture = self._pixels(frame)
                del frame
            yield Frame(number, float(self.timestamps[number]), picture)
            del picture

    def _shown_at(self, wanted: int, decoded: Iterator[Any]) -> Any:
        while (frame := next(decoded, None)) is not None:
            if frame.pts is not None and frame.pts >= wanted:
                if frame.pts > wanted or frame.is_corrupt:
                    break
                return frame
            del frame  # or it would be there until the next one is
        at = float((wanted - self.origin) * self.unit)
        raise Rejected(Reason.UNREADABLE_VIDEO, f"{self.kind} whose picture at {at:.3f} seconds is damaged")

    def _pixels(self, frame: Any) -> torch.Tensor:
        import torch

        _refuse_large(frame.width, frame.height, self.most_pixels)
        pixels = frame.to_ndarray(format="rgb24")
        turned = np.rot90(pixels, round(frame.rotation / _QUARTERS)) if frame.rotation else pixels
        return torch.from_numpy(np.ascontiguousarray(turned)).permute(2, 0, 1)


@contextmanager
def open_video(stream: Stream, most_pixels: int = MAX_PIXELS) -> Iterator[Video]:
    """A video of which no picture was decoded yet. Raises Rejected, and nothing else, for a file that holds no whole one."""
    beginning = beginning_of(stream, BEGINNING_BYTES)
    kind = signature(beginning)
    refuse_other(VIDEO, beginning, kind)
    assert kind is not None
    if ends_early(stream, kind):
        raise Rejected(Reason.TRUNCATED_VIDEO, f"{kind} of {size_of(stream)} bytes that ends too early")
    track = Track(stream, kind)
    try:
        with _told(kind):
            video = _described(track, kind, min(most_pixels, MAX_PIXELS))
        yield video
    finally:
        track.let_go()


def _described(opened: Track, kind: str, most_pixels: int) -> Video:
    import av

    container, track = opened.container, opened.track
    _refuse_large(track.codec_context.width, track.codec_context.height, most_pixels)
    times, starts, until = array("q"), array("q"), 0
    vp8 = track.codec_context.name == "vp8"
    for packet in container.demux(track):
        if packet.pts is None or packet.is_discard or (vp8 and not _is_shown(packet)):
            continue
        times.append(packet.pts)
        until = max(until, packet.pts + (packet.duration or 0))
        if packet.is_keyframe:
            starts.append(packet.pts)
    if not times or not starts:
        raise Rejected(Reason.EMPTY_VIDEO, f"{kind} without one picture")
    shown = np.unique(np.frombuffer(times, np.int64))
    unit = Fraction(track.time_base)
    if until <= shown[-1]:
        until = int(shown[-1]) + _usual_step(shown, track.average_rate, unit)
    start = container.start_time
    origin = int(shown[0]) if start is None else min(int(shown[0]), round(Fraction(start, av.time_base) / unit))
    return Video(kind, shown, np.unique(np.frombuffer(starts, np.int64)), until, unit, origin, opened, most_pixels)


def _is_shown(packet: Any) -> bool:
    """VP8 has pictures that only help to predict others."""
    data = bytes(packet)
    return bool(data and data[0] & _VP8_SHOWN)


def _usual_step(shown: NDArray[np.int64], rate: Fraction | None, unit: Fraction) -> int:
    """How long a picture is shown, where its packet does not say."""
    if len(shown) > 1:
        return max(1, int(np.median(np.diff(shown))))
    return max(1, round(1 / (rate * unit))) if rate else 1


def _refuse_large(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise Rejected(
            Reason.TOO_MANY_PIXELS, f"{width}×{height} = {width * height} pixels a picture, the limit is {limit}"
        )


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """What a decoder raises on damaged files becomes a reject."""
    try:
        yield
    except (Rejected, MemoryError):
        raise
    except Exception as error:
        raise unreadable(VIDEO, kind, error) from None
