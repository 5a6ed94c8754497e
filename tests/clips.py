"""Sounds and videos that tests make by themselves."""

import io
from fractions import Fraction

import numpy as np


def tone(seconds: float, pitch: float, rate: int = 16_000) -> np.ndarray:
    """float32 samples of a tone that fades."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.exp(-time) * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """A file of float samples, which loses nothing."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def film(pictures: list[np.ndarray], rate: int = 10) -> bytes:
    """Pictures, uint8 (height, width, 3), as a Matroska file that loses nothing of them."""
    import av

    stream = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(stream, "w", format="matroska") as container:
        track = container.add_stream("ffv1", rate=rate)
        track.width, track.height, track.pix_fmt = width, height, "bgr0"
        track.codec_context.time_base = Fraction(1, rate)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return stream.getvalue()
