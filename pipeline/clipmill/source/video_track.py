"""The decoder of a video's first track of moving pictures. It can be let go of, and is opened again when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import Rejected
from clipmill.source.media import Stream
from clipmill.source.video_files import DEMUXERS


class Track:
    """A file of this ``kind``, open by FFmpeg. Raises what FFmpeg raises, and Rejected for a file without moving pictures."""

    def __init__(self, stream: Stream, kind: str) -> None:
        self._stream, self._kind = stream, kind
        self._opened: tuple[Any, Any] | None = None

    @property
    def container(self) -> Any:
        """PyAV's."""
        return self._both[0]

    @property
    def track(self) -> Any:
        """PyAV's stream."""
        return self._both[1]

    def decoded_from(self, time: int) -> Iterator[Any]:
        """Pictures in the order in which they are shown, from the one at ``time`` on, which stands alone."""
        container, track = self._both
        container.seek(time, stream=track)
        for packet in container.demux(track):
            decoded = packet.decode()
            while decoded:
                yield decoded.pop(0)  # and keep none, as PyAV's own loop does

    def let_go(self) -> None:
        """Closes the file. The decoder's pictures go with it: those that others are predicted from, and those that wait."""
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    @property
    def _both(self) -> tuple[Any, Any]:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> tuple[Any, Any]:
        import av

        self._stream.seek(0)
        container = av.open(self._stream, format=DEMUXERS[self._kind], metadata_errors="replace")
        covers = av.stream.Disposition.attached_pic
        tracks = [track for track in container.streams.video if not track.disposition & covers]
        if not tracks or tracks[0].codec_context is None:
            container.close()
            if tracks:
                raise Rejected(Reason.UNREADABLE_VIDEO, f"{self._kind} of a codec that is not known")
            raise Rejected(Reason.NOT_A_VIDEO, f"{self._kind} without moving pictures")
        tracks[0].codec_context.thread_count = 1  # there is a worker on every core
        return container, tracks[0]
