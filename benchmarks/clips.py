"""Decoding sounds and videos beside their bare decoders: seconds of media a second of one core.

    python -m benchmarks.clips

Sound: soundfile and soxr in three lines. Video: PyAV, every picture in order, and the same eight taken. Each is the median of
several runs over the same bytes, taken in turns. Memory is what a process takes at most that prepares two pictures of
7680×4320, beside what it takes before it opens the file.
"""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import av
import numpy as np
import soundfile
import soxr

from clipmill.source.sound import Hearing, open_sound
from clipmill.source.video import open_video

RATE, SECONDS, RUNS = 48_000, 10.0, 15
FRAMES = 8
LARGE = {
    "H.264, one reference": {"preset": "ultrafast"},
    "H.264, four references": {"preset": "veryfast", "x264-params": "ref=4:bframes=3:rc-lookahead=4"},
}
PREPARE = """
import re, sys, torch, av
from clipmill.embedding.clips import ClipDecoding
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import Clips
pictures = Preprocessing((224, 224), (0, 0, 0), (1, 1, 1), "bicubic", "shortest")
pictures.prepare(torch.zeros((3, 640, 640), dtype=torch.uint8))
most = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = most()
with open(sys.argv[1], "rb") as stream:
    ClipDecoding(Clips(pictures=pictures), ("video",), None, 2, 1 << 30).prepare("video", stream)
print(before, most())
"""


def sounds() -> dict[str, bytes]:
    """Ten seconds of two channels in each format."""
    noise = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (441_000, 2)), axis=0)
    samples = 0.5 * noise / np.abs(noise).max()
    made = {}
    for kind, subtype in (
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
    ):
        stream, rate = io.BytesIO(), 48_000 if subtype == "OPUS" else 44_100
        soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
        made[subtype if kind == "OGG" else kind] = stream.getvalue()
    return made


def videos() -> dict[str, bytes]:
    """Ten seconds of 640×480 in each codec, a picture that stands alone every two seconds."""
    made = {}
    for name, codec, container in (("H.264", "libx264", "mp4"), ("VP9", "libvpx-vp9", "webm")):
        stream = io.BytesIO()
        with av.open(stream, "w", format=container) as output:
            track = output.add_stream(codec, rate=25, options={"g": "50", "cpu-used": "8", "deadline": "realtime"})
            track.width, track.height, track.pix_fmt = 640, 480, "yuv420p"
            y, x = np.mgrid[0:480, 0:640]
            for number in range(250):
                picture = np.stack([(x + 3 * number) % 256, (y + number) % 256, (x + y) % 256], axis=2).astype(np.uint8)
                output.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(track.encode())
        made[name] = stream.getvalue()
    return made


def bare_sound(data: bytes) -> int:
    """What one writes first."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return len(soxr.resample(samples.mean(axis=1), rate, RATE, quality="HQ")[: round(SECONDS * RATE)])


def our_sound(data: bytes) -> int:
    """The same, with everything that is looked at on the way."""
    with open_sound(io.BytesIO(data)) as sound:
        return sum(len(window) for window in sound.heard(Hearing(RATE, SECONDS)))


def bare_video(data: bytes) -> int:
    """Every picture is decoded, and those in the middles of eight parts are taken."""
    with av.open(io.BytesIO(data)) as container:
        track = container.streams.video[0]
        track.codec_context.thread_count = 1
        wanted = {250 * (2 * at + 1) // (2 * FRAMES) for at in range(FRAMES)}
        frames = enumerate(container.decode(track))
        return len([frame.to_ndarray(format="rgb24") for number, frame in frames if number in wanted])


def our_video(data: bytes) -> int:
    """Those eight."""
    with open_video(io.BytesIO(data)) as video:
        return sum(1 for _ in video.pictures(video.evenly(FRAMES)))


def large(path: str, options: dict[str, str]) -> None:
    """Writes two seconds of 7680×4320, a picture that stands alone every second."""
    shifts = np.arange(7680) // 5 + np.arange(4320)[:, None] // 7
    with av.open(path, "w") as output:
        track = output.add_stream("libx264", rate=12, options={"g": "12", **options})
        track.width, track.height, track.pix_fmt = 7680, 4320, "yuv420p"
        for number in range(24):
            frame = av.VideoFrame(7680, 4320, "yuv420p")
            for plane in frame.planes:
                values = ((shifts[: plane.height, : plane.width] + 9 * number) % 256).astype(np.uint8)
                plane.update(np.pad(values, ((0, 0), (0, plane.line_size - plane.width))).tobytes())
            output.mux(track.encode(frame))
        output.mux(track.encode())


def memory(name: str, options: dict[str, str]) -> None:
    """Prints what a process takes."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        large(file.name, options)
        done = subprocess.run([sys.executable, "-c", PREPARE, file.name], check=True, capture_output=True, text=True)
    before, most = (int(kilobytes) / 1e6 for kilobytes in done.stdout.split())
    print(f"{name}: {most - before:.2f} GB beside {before:.2f}")


def beside(name: str, ours: Callable[[bytes], int], bare: Callable[[bytes], int], data: bytes) -> None:
    """Prints both rates and their ratio."""
    assert abs(ours(data) - bare(data)) <= 1, name
    spent: dict[Callable[[bytes], int], list[float]] = {ours: [], bare: []}
    for _ in range(RUNS):
        for work in (bare, ours):
            began = time.process_time()
            work(data)
            spent[work].append(time.process_time() - began)
    mine, theirs = (SECONDS / statistics.median(spent[work]) for work in (ours, bare))
    print(f"{name:8} {mine:8.0f} × real time, bare decoder {theirs:8.0f} ×: {mine / theirs:.2f}")


def main() -> None:
    """All formats."""
    for name, data in sounds().items():
        beside(name, our_sound, bare_sound, data)
    for name, data in videos().items():
        beside(name, our_video, bare_video, data)
    for name, options in LARGE.items():
        memory(name, options)


if __name__ == "__main__":
    main()
