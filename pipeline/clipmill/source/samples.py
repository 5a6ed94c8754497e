"""The samples of a file of sound, read forwards from any place, exactly."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.source.media import Stream

if TYPE_CHECKING:
    import soundfile

BLOCK_SAMPLES = 1 << 20
"""Decoded at a time, over all channels."""
_MP3_SLACK = 4 * 1152
"""Samples that may be missing at the end: the length of an MP3 without a header of its own is counted in its frames."""


class Samples:
    """An open file of sound; closed at the end of a ``with``.

    Of most formats a place is found to the sample. An MP3 is decoded from its beginning instead: libsndfile finds places in it
    by a table of a hundred, and soundfile goes to one after every read unless it takes the file for one without places.
    """

    def __init__(self, stream: Stream) -> None:
        stream.seek(0)
        self._file = _open(stream)
        self._at = 0

    def __enter__(self) -> Samples:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    @property
    def format(self) -> str:
        """What libsndfile calls the format."""
        return str(self._file.format)

    @property
    def frames(self) -> int:
        """Samples of each channel, as the header says."""
        return int(self._file.frames)

    @property
    def samplerate(self) -> int:
        """Samples a second."""
        return int(self._file.samplerate)

    @property
    def channels(self) -> int:
        """Of sound."""
        return int(self._file.channels)

    @property
    def slack(self) -> int:
        """How many samples fewer may be there than the header says."""
        return _MP3_SLACK if self.format == "MP3" else 0

    def next(self, count: int) -> NDArray[np.float32]:
        """The next samples, float32 (at most ``count``, channels)."""
        block: NDArray[np.float32] = self._file.read(count, dtype="float32", always_2d=True)
        self._at += len(block)
        return block

    def go_to(self, place: int) -> None:
        """The next sample is the one with this number, or the file has ended."""
        if self.format != "MP3":
            self._file.seek(place)
            self._at = place
            return
        if place < self._at:
            self._file.seek(0)
            self._at = 0
        while place > self._at:
            if not len(self.next(min(place - self._at, max(1, BLOCK_SAMPLES // self.channels)))):
                return

    def has_end(self) -> bool:
        """Whether a sample can be read where the header says that the last one is. Of no use for reading afterwards."""
        import soundfile

        try:
            self._file.seek(max(0, self.frames - 1 - self.slack))
            return len(self._file.read(1)) > 0
        except soundfile.LibsndfileError:
            return False


def _open(stream: Stream) -> soundfile.SoundFile:
    import soundfile

    file = soundfile.SoundFile(stream)
    if file.format == "MP3":
        file.seekable = lambda: False
    return file
