"""Odd but whole videos give their pictures at the right times; broken ones end as a reject with its reason."""

import contextlib
import io
import random
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import Rejected
from clipmill.source.video import Frame, open_video

av = pytest.importorskip("av")
WIDTH, HEIGHT, COUNT, RATE = 64, 48, 40, 20
CODECS = {"mp4": "libx264", "webm": "libvpx-vp9", "mkv": "libx264"}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def brightness(number: int) -> int:
    """Of the picture with this number: neighbours differ by more than a codec loses."""
    return 20 + 5 * (number * 7 % COUNT)


def video(kind: str = "mp4", count: int = COUNT, codec: str | None = None, times: list[int] | None = None) -> bytes:
    """Grey pictures at these times, in milliseconds, or one every 50; a picture can be decoded by itself every ten."""
    stream = io.BytesIO()
    with av.open(stream, "w", format={"mkv": "matroska"}.get(kind, kind)) as container:
        track = container.add_stream(codec or CODECS[kind], rate=RATE, options={"g": "10"})
        track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            picture = np.full((HEIGHT, WIDTH, 3), brightness(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (times[number] if times else 50 * number), Fraction(1, 1000)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return stream.getvalue()


def shown(data: bytes, count: int) -> list[Frame]:
    with open_video(io.BytesIO(data)) as opened:
        return list(opened.pictures(opened.evenly(count)))


def reason_of(data: bytes) -> Reason:
    with pytest.raises(Rejected) as raised:
        shown(data, 8)
    assert raised.value.detail
    return raised.value.reason


def is_picture(frame: Frame) -> bool:
    return abs(float(frame.picture.float().mean()) - brightness(frame.number)) < 3


def made_by_ffmpeg(
    folder: Path, name: str, *options: str, source: str = "testsrc=duration=3:size=128x96:rate=24"
) -> Path:
    inputs = ["-f", "lavfi", "-i", source]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *inputs, *options, str(folder / name)], check=True)
    return folder / name


@pytest.mark.parametrize("kind", CODECS)
def test_every_picture_is_there_at_its_time(kind: str) -> None:
    with open_video(io.BytesIO(video(kind))) as opened:
        frames = list(opened.pictures(range(opened.frames)))
        assert (opened.frames, opened.fps, opened.duration) == (COUNT, RATE, COUNT / RATE)
    assert [frame.timestamp for frame in frames] == pytest.approx([number / RATE for number in range(COUNT)])
    assert all(is_picture(frame) for frame in frames)
    assert {tuple(frame.picture.shape) for frame in frames} == {(3, HEIGHT, WIDTH)}


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libx264", "libx265", "mpeg4"])
def test_pictures_far_apart_are_the_same_as_in_one_pass(codec: str) -> None:
    try:
        data = video("webm" if codec.startswith("libvpx") else "mp4", codec=codec)
    except (ValueError, av.error.FFmpegError):
        pytest.skip(f"this FFmpeg has no {codec}")
    with open_video(io.BytesIO(data)) as opened:
        together = list(opened.pictures(range(opened.frames)))
    for number in (0, 9, 10, 11, 27, 39):
        with open_video(io.BytesIO(data)) as opened:
            (alone,) = opened.pictures([number])
        assert alone.timestamp == together[number].timestamp
        assert bool((alone.picture == together[number].picture).all())


def test_pictures_stand_in_the_middles_of_equal_parts() -> None:
    frames = shown(video(), 4)
    assert [frame.number for frame in frames] == [5, 15, 25, 35]
    assert all(is_picture(frame) for frame in frames)


def test_fewer_pictures_than_asked_for_are_all_there_once() -> None:
    assert [frame.number for frame in shown(video(count=3), 8)] == [0, 1, 2]
    assert [frame.number for frame in shown(video(count=1), 8)] == [0]


def test_a_variable_rate_is_cut_by_time_and_not_by_number() -> None:
    """Twenty pictures in the first second, then one every second."""
    times = [50 * number for number in range(20)] + [1000 * number for number in range(1, 21)]
    with open_video(io.BytesIO(video("mkv", times=times))) as opened:
        assert list(opened.timestamps) == pytest.approx([time / 1000 for time in times])
        frames = list(opened.pictures(opened.evenly(5)))
    assert all(is_picture(frame) for frame in frames)
    span = frames[-1].timestamp - frames[0].timestamp
    assert 14 < span < 18
    assert sum(frame.number < 20 for frame in frames) <= 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY_VIDEO),
        (b"<html>gone</html>", Reason.NOT_A_VIDEO),
        (b"a text", Reason.NOT_A_VIDEO),
        (b"#EXTM3U\nhttp://example.org/a.ts\n", Reason.NOT_A_VIDEO),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", Reason.NOT_A_VIDEO),
        (b"RIFF\x00\x00\x00\x00AVI LIST", Reason.NOT_A_VIDEO),
        (b"GIF89a" + bytes(60), Reason.NOT_A_VIDEO),
        (b"\x00\x00\x00\x20ftypavif" + bytes(60), Reason.NOT_A_VIDEO),
        (b"\x00\x00\x00\x20ftypisom" + bytes(24), Reason.TRUNCATED_VIDEO),
        (bytes.fromhex("1a45dfa3") + bytes(60), Reason.TRUNCATED_VIDEO),
    ],
)
def test_what_is_no_video_is_rejected_with_its_reason(data: bytes, reason: Reason) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_file_cut_short_is_rejected(kind: str, share: float) -> None:
    data = video(kind)
    assert reason_of(data[: int(share * len(data))]) == Reason.TRUNCATED_VIDEO


def test_pictures_larger_than_the_limit_are_not_decoded() -> None:
    with pytest.raises(Rejected) as raised, open_video(io.BytesIO(video()), most_pixels=WIDTH * HEIGHT - 1):
        pass
    assert raised.value.reason == Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", CODECS)
def test_damage_of_any_kind_is_a_video_or_a_reject(kind: str) -> None:
    chance = random.Random(3)
    data = video(kind, count=12)
    for _ in range(40):
        broken = bytearray(data)
        for _ in range(chance.choice([1, 4, 40])):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        with contextlib.suppress(Rejected):
            assert all(frame.picture.shape[0] == 3 for frame in shown(bytes(broken), 4))


@needs_ffmpeg
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_film_from_a_telephone_is_upright(tmp_path: Path, turn: int) -> None:
    plain = made_by_ffmpeg(tmp_path, "plain.mp4", "-c:v", "libx264")
    turned = tmp_path / "turned.mp4"
    rotate = ["-i", str(plain), "-metadata:s:v", f"rotate={turn}", "-c", "copy", str(turned)]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *rotate], check=True)
    upright = tmp_path / "upright.png"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", str(turned), "-frames:v", "1", str(upright)], check=True)
    from PIL import Image

    expected = np.array(Image.open(upright).convert("RGB")).transpose(2, 0, 1).astype(int)
    with open_video(io.BytesIO(turned.read_bytes())) as opened:
        (frame,) = opened.pictures([0])
    assert frame.picture.shape == expected.shape
    assert np.abs(frame.picture.numpy() - expected).mean() < 4


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fragments.mp4", ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"]),
        ("fast.mp4", ["-c:v", "libx264", "-movflags", "+faststart"]),
        ("reordered.mp4", ["-c:v", "libx264", "-bf", "3", "-g", "24"]),
        ("open.mkv", ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=12:bframes=3"]),
        ("hevc.mp4", ["-c:v", "libx265", "-x265-params", "log-level=none"]),
        ("av1.webm", ["-c:v", "libaom-av1", "-cpu-used", "8", "-t", "1"]),
        ("hidden.webm", ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16"]),
        ("live.webm", ["-c:v", "libvpx", "-live", "1"]),
        ("grey.mkv", ["-c:v", "ffv1", "-pix_fmt", "gray"]),
        ("deep.mp4", ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none"]),
        ("colours.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv444p"]),
        ("stills.mp4", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]),
        ("one.mp4", ["-c:v", "libx264", "-frames:v", "1"]),
        ("odd.mkv", ["-c:v", "ffv1", "-vf", "scale=127:95"]),
        ("late.mp4", ["-c:v", "libx264", "-output_ts_offset", "5"]),
        ("interlaced.mkv", ["-c:v", "mpeg2video", "-flags", "+ildct+ilme"]),
    ],
)
def test_what_ffmpeg_writes_has_the_times_that_ffprobe_tells(tmp_path: Path, name: str, options: list[str]) -> None:
    path = made_by_ffmpeg(tmp_path, name, *options)
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time"]
    told = subprocess.run([*probe, "-of", "csv=p=0", str(path)], check=True, capture_output=True, text=True).stdout
    times = [float(line.strip(",")) for line in told.split()]
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=start_time", "-of", "csv=p=0", str(path)]
    start = float(subprocess.run(probe, check=True, capture_output=True, text=True).stdout)
    with open(path, "rb") as stream, open_video(stream) as opened:
        frames = list(opened.pictures(range(opened.frames)))
        found = [frame.timestamp for frame in opened.pictures(opened.evenly(5))]
    assert [frame.timestamp for frame in frames] == pytest.approx([time - start for time in times], abs=0.003)
    assert set(found) <= {frame.timestamp for frame in frames}


@needs_ffmpeg
def test_a_file_of_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = made_by_ffmpeg(tmp_path, "sound.mp4", "-c:a", "aac", source="sine=duration=1")
    assert reason_of(path.read_bytes()) == Reason.NOT_A_VIDEO


@needs_ffmpeg
def test_an_hour_takes_little_memory_and_is_not_decoded_whole(tmp_path: Path) -> None:
    path = made_by_ffmpeg(
        tmp_path,
        "hour.mp4",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        source="testsrc=duration=3600:size=64x48:rate=2",
    )
    code = (
        "import sys, resource\nfrom clipmill.source.video import open_video\nimport av, torch\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with open(sys.argv[1], 'rb') as stream, open_video(stream) as video:\n"
        "    print([frame.timestamp for frame in video.pictures(video.evenly(4))])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    times, more = done.stdout.splitlines()
    assert times == "[450.0, 1350.0, 2250.0, 3150.0]"
    assert int(more) < 200_000  # kilobytes


@pytest.mark.parametrize("kind", CODECS)
def test_pictures_are_the_same_where_the_decoder_is_let_go_of(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = video(kind)
    kept = shown(data, 12)  # three or so from each picture that stands alone
    monkeypatch.setattr("clipmill.source.video._LARGE", 0)
    with open_video(io.BytesIO(data)) as opened:
        let_go = list(opened.pictures(opened.evenly(12)))
        again = list(opened.pictures(opened.evenly(12)))
    for frames in (let_go, again):
        assert [frame.timestamp for frame in frames] == [frame.timestamp for frame in kept]
        assert all((one.picture == other.picture).all() for one, other in zip(frames, kept, strict=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_large_pictures_take_the_memory_of_one_beside_the_decoder(tmp_path: Path) -> None:
    """16 million pixels: 25 MB as decoded, three of which a decoder without predictions holds, and 49 MB as prepared."""
    with av.open(str(tmp_path / "large.mp4"), "w") as container:
        track = container.add_stream("libx264", rate=RATE, options={"g": "2", "preset": "ultrafast"})
        track.width, track.height, track.pix_fmt = 5120, 3200, "yuv420p"
        for number in range(8):
            frame = av.VideoFrame(5120, 3200, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([brightness(number)]) * plane.buffer_size)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    code = (
        "import re, sys, torch, av\n"
        "from clipmill.embedding.clips import ClipDecoding\n"
        "from clipmill.encoders.preprocess import Preprocessing\n"
        "from clipmill.encoders.protocol import Clips\n"
        "torch.set_num_threads(1)\n"
        "pictures = Preprocessing((32, 32), (0, 0, 0), (1, 1, 1), 'bicubic', 'shortest')\n"
        "pictures.prepare(torch.zeros((3, 640, 640), dtype=torch.uint8))\n"
        "most = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = most()\n"
        "with open(sys.argv[1], 'rb') as stream:\n"
        "    made = ClipDecoding(Clips(pictures=pictures), ('video',), None, 4, 1 << 30).prepare('video', stream)\n"
        "print(len(made.pieces), most() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "large.mp4")], check=True, capture_output=True)
    pieces, more = map(int, done.stdout.split())
    assert pieces == 4 * 3 * 32 * 32
    assert more < 165_000  # kilobytes
