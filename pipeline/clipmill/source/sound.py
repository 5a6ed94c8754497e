"""Encoded sound to windows of samples of one channel at the rate that an encoder hears, or the reason why not.

libsndfile decodes: WAV, FLAC and MP3 faster than FFmpeg, Vorbis as fast, and in all but MP3 it goes to a place without decoding
what is before. soxr resamples, as librosa does by default.

A sound has one channel: the mean of all that there are. Samples outside of ±1, which files of floating point may hold, stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import BEGINNING_BYTES, Rejected
from clipmill.source.media import AUDIO, Stream, beginning_of, refuse_other, size_of, unreadable
from clipmill.source.samples import BLOCK_SAMPLES, Samples
from clipmill.source.sound_files import ends_early, signature

_FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"}
"""Not the others that libsndfile knows: each is more code that reads what strangers wrote."""
MAX_RATE = 768_000
"""Samples a second; more has no recorder, but a header can say it and so make seconds of silence larger than memory."""
MAX_CHANNELS = 64
MAX_WINDOWS = 60
"""Of one clip: an hour is heard at as many places, evenly. With windows of ten seconds a clip of ten minutes is heard whole."""
_LEAST_OF_WINDOW = 0.5
"""What is left at the end of a clip is a window of its own if it is that much of one, since all windows count the same."""


@dataclass(frozen=True)
class Hearing:
    """What of a clip is heard: ``rate`` samples a second, ``seconds`` at once; ``windows``: of a longer clip all of it, window
    by window, where otherwise its beginning stands for it."""

    rate: int
    seconds: float
    windows: bool = False

    def starts(self, duration: float) -> list[float]:
        """When each window begins, in seconds, of a clip of this duration: at most `MAX_WINDOWS`, evenly if there are more."""
        if not self.windows or duration <= self.seconds:
            return [0.0]
        whole = int(duration / self.seconds + 1e-9)
        rest = duration - whole * self.seconds
        count = whole + (rest >= _LEAST_OF_WINDOW * self.seconds)
        if count <= MAX_WINDOWS:
            return [at * self.seconds for at in range(count)]
        return [at * (duration - self.seconds) / (MAX_WINDOWS - 1) for at in range(MAX_WINDOWS)]


@dataclass(frozen=True)
class Sound:
    """An open clip: how long it is in seconds, and its samples a second."""

    duration: float
    sample_rate: int
    kind: str
    file: Samples

    def heard(self, hearing: Hearing) -> Iterator[NDArray[np.float32]]:
        """Its windows, float32 (samples,) at the rate of the hearing, each decoded when it is asked for.

        Raises Rejected for a clip that is damaged or ends too early there, and after the last for one that was silent.
        """
        silent = True
        for start in hearing.starts(self.duration):
            samples = self._samples(round(start * self.sample_rate), round(hearing.seconds * self.sample_rate))
            silent = silent and bool(samples.size == 0 or np.ptp(samples) == 0)
            yield resampled(samples, self.sample_rate, hearing.rate)
        if silent:
            raise Rejected(Reason.SILENT_AUDIO, f"{self.kind} of {self.duration:.3f} seconds without a sound")

    def _samples(self, start: int, count: int) -> NDArray[np.float32]:
        """float32 (at most ``count``,) from this sample on."""
        wanted = max(0, min(count, self.file.frames - start))
        samples = np.empty(wanted, np.float32)
        step = max(1, BLOCK_SAMPLES // self.file.channels)
        with _told(self.kind):
            self.file.go_to(start)
            for at in range(0, wanted, step):
                block = self.file.next(min(step, wanted - at))
                samples[at : at + len(block)] = block.mean(axis=1, dtype=np.float32)
                if len(block) < min(step, wanted - at):
                    if start + at + len(block) < self.file.frames - self.file.slack:
                        raise Rejected(Reason.TRUNCATED_AUDIO, f"{self.kind} that ends too early")
                    samples = samples[: at + len(block)]
                    break
        if not np.isfinite(samples).all():
            raise Rejected(Reason.UNREADABLE_AUDIO, f"{self.kind} with samples that are no numbers")
        return samples


@contextmanager
def open_sound(stream: Stream) -> Iterator[Sound]:
    """A clip of which only the header was read. Raises Rejected, and nothing else, for a file that holds no whole sound."""
    beginning = beginning_of(stream, BEGINNING_BYTES)
    kind = signature(beginning)
    refuse_other(AUDIO, beginning, kind)
    assert kind is not None
    if ends_early(stream, kind):
        raise Rejected(Reason.TRUNCATED_AUDIO, f"{kind} of {size_of(stream)} bytes that ends too early")
    with _told(kind):
        _refuse_odd(stream, kind)
        file = Samples(stream)
    with file:
        yield Sound(file.frames / file.samplerate, file.samplerate, kind, file)


def _refuse_odd(stream: Stream, kind: str) -> None:
    with Samples(stream) as file:
        if file.format not in _FORMATS:
            raise Rejected(Reason.NOT_AUDIO, f"{file.format}, which is not supported; convert it to FLAC")
        if not file.frames:
            raise Rejected(Reason.EMPTY_AUDIO, f"{kind} without one sample")
        rate, channels = file.samplerate, file.channels
        if not 0 < rate <= MAX_RATE:
            raise Rejected(Reason.UNREADABLE_AUDIO, f"{kind} of {rate} samples a second, the limit is {MAX_RATE}")
        if channels > MAX_CHANNELS:
            raise Rejected(Reason.UNREADABLE_AUDIO, f"{kind} of {channels} channels, the limit is {MAX_CHANNELS}")
        if not file.has_end():
            raise Rejected(Reason.TRUNCATED_AUDIO, f"{kind} that ends before its {file.frames} samples do")


def resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Samples, float32 (n,), of so many a second, at the ``wanted`` rate."""
    if rate == wanted or not len(samples):
        return samples
    import soxr

    made: Any = soxr.resample(samples, rate, wanted, quality="HQ")
    return np.asarray(made, np.float32)


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """What a decoder raises on damaged files becomes a reject."""
    try:
        yield
    except (Rejected, MemoryError):
        raise
    except Exception as error:
        raise unreadable(AUDIO, kind, error) from None
