"""Odd but whole sounds are heard as their samples say; broken ones end as a reject with its reason, never otherwise."""

import contextlib
import io
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.schemas import Reason
from clipmill.source.diagnosis import Rejected
from clipmill.source.sound import MAX_WINDOWS, Hearing, open_sound

soundfile = pytest.importorskip("soundfile")
RATE = 16_000
AT_ONCE = Hearing(RATE, 10.0)
KINDS = {"WAV": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def tone(seconds: float = 2.0, rate: int = RATE, pitch: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray, kind: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype or KINDS[kind])
    return stream.getvalue()


def heard(data: bytes, hearing: Hearing = AT_ONCE) -> list[np.ndarray]:
    with open_sound(io.BytesIO(data)) as sound:
        return list(sound.heard(hearing))


def reason_of(data: bytes) -> Reason:
    with pytest.raises(Rejected) as raised:
        heard(data)
    assert raised.value.detail
    return raised.value.reason


def made_by_ffmpeg(folder: Path, name: str, *options: str) -> bytes:
    source = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2:sample_rate=44100"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *options, str(folder / name)], check=True)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_heard_is_what_the_library_reads(kind: str) -> None:
    data = encoded(tone(), kind)
    (window,) = heard(data)
    assert np.allclose(window, soundfile.read(io.BytesIO(data), dtype="float32")[0], atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_samples_of_every_width_are_heard(subtype: str) -> None:
    (window,) = heard(encoded(tone(), subtype=subtype))
    assert np.abs(window[: 2 * RATE] - tone()[: len(window)]).max() < 0.05


def test_several_channels_are_heard_as_their_mean() -> None:
    left, right, centre = tone(pitch=300), tone(pitch=500), tone(pitch=700)
    (window,) = heard(encoded(np.stack([left, right, centre], axis=1), subtype="FLOAT"))
    assert np.allclose(window, (left.astype(np.float64) + right + centre) / 3, atol=1e-6)


def test_a_file_is_brought_to_the_rate_of_the_encoder_as_librosa_would() -> None:
    soxr = pytest.importorskip("soxr")
    (window,) = heard(encoded(tone(rate=44_100), rate=44_100, subtype="FLOAT"), Hearing(48_000, 10.0))
    assert np.array_equal(window, soxr.resample(tone(rate=44_100), 44_100, 48_000, quality="HQ"))
    inside = slice(2_000, -2_000)
    assert np.abs(window[inside] - tone(rate=48_000)[inside]).max() < 1e-3


def test_without_windows_the_beginning_of_a_clip_stands_for_it() -> None:
    samples = np.concatenate([tone(1.0), tone(3.0, pitch=900)])
    (window,) = heard(encoded(samples, subtype="FLOAT"), Hearing(RATE, 1.5))
    assert np.array_equal(window, samples[: round(1.5 * RATE)])


def test_windows_follow_each_other_and_a_short_rest_is_left_out() -> None:
    samples = tone(5.3)
    windows = heard(encoded(samples, subtype="FLOAT"), Hearing(RATE, 1.0, windows=True))
    assert [len(window) for window in windows] == [RATE] * 5
    assert np.array_equal(np.concatenate(windows), samples[: 5 * RATE])
    longer = heard(encoded(tone(5.6), subtype="FLOAT"), Hearing(RATE, 1.0, windows=True))
    assert len(longer) == 6
    assert len(longer[-1]) == round(0.6 * RATE)


def test_an_hour_is_heard_at_as_many_places_evenly_up_to_its_end(tmp_path: Path) -> None:
    path, rate = tmp_path / "hour.flac", 1000
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
        for minute in range(60):
            file.write(np.full(60 * rate, minute / 100) + 0.001 * tone(60.0, rate, 100))
    with open(path, "rb") as stream, open_sound(stream) as sound:
        assert sound.duration == 3600
        windows = list(sound.heard(Hearing(rate, 10.0, windows=True)))
    assert len(windows) == MAX_WINDOWS
    assert [round(100 * float(window.mean())) for window in windows] == list(range(60))


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_a_place_far_into_a_file_is_found_to_the_sample(kind: str) -> None:
    data = encoded(np.concatenate([tone(20.0, pitch=300), tone(1.0, pitch=3000)]), kind)
    whole = soundfile.read(io.BytesIO(data), dtype="float32")[0]
    windows = heard(data, Hearing(RATE, 0.5, windows=True))
    assert np.abs(windows[-1] - whole[len(windows) * RATE // 2 - RATE // 2 : len(windows) * RATE // 2]).max() < 1e-3


@pytest.mark.parametrize(
    "data", [encoded(np.zeros(RATE)), encoded(np.full(RATE, 0.25)), encoded(np.zeros(RATE), "FLAC")]
)
def test_silence_is_rejected_as_such(data: bytes) -> None:
    assert reason_of(data) == Reason.SILENT_AUDIO


def test_a_clip_that_begins_with_silence_is_not_silent() -> None:
    assert len(heard(encoded(np.concatenate([np.zeros(RATE), tone()])), Hearing(RATE, 1.0, windows=True))) == 3


@pytest.mark.parametrize("rate", [100, 8_000, 11_025, 96_000, 192_000])
def test_unusual_rates_are_heard(rate: int) -> None:
    (window,) = heard(encoded(tone(rate=rate, pitch=20), rate=rate))
    assert abs(len(window) - 2 * RATE) <= 1


def test_one_sample_is_silent_and_two_are_a_sound() -> None:
    assert reason_of(encoded(np.array([0.5]))) == Reason.SILENT_AUDIO
    assert len(heard(encoded(np.array([0.5, -0.5])))[0]) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY_AUDIO),
        (encoded(np.zeros(0)), Reason.EMPTY_AUDIO),
        (b"<!doctype html><html>not found</html>", Reason.NOT_AUDIO),
        (b"a text", Reason.NOT_AUDIO),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), Reason.NOT_AUDIO),
        (bytes(500), Reason.NOT_AUDIO),
        (b"fLaC" + bytes(500), Reason.UNREADABLE_AUDIO),
        (b"RIFF\x00\x01\x00\x00WAVEfmt ", Reason.TRUNCATED_AUDIO),
        (encoded(np.array([0.1, np.nan, 0.2, 0.3]), subtype="FLOAT"), Reason.UNREADABLE_AUDIO),
        (encoded(tone(), rate=1_000_000), Reason.UNREADABLE_AUDIO),
        (encoded(np.zeros((10, 65))), Reason.UNREADABLE_AUDIO),
    ],
    ids=["empty", "no samples", "page", "text", "picture", "zeros", "header", "no data", "nan", "rate", "channels"],
)
def test_what_is_no_sound_is_rejected_with_its_reason(data: bytes, reason: Reason) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_cut_short_is_rejected_and_never_half_a_sound(kind: str, share: float) -> None:
    data = encoded(tone(6.0), kind)
    assert reason_of(data[: int(share * len(data))]) == Reason.TRUNCATED_AUDIO


@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_any_kind_is_a_sound_or_a_reject(kind: str) -> None:
    chance = random.Random(5)
    data = encoded(tone(0.5), kind)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(chance.choice([1, 4, 40])):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        with contextlib.suppress(Rejected):
            assert all(np.isfinite(window).all() for window in heard(bytes(broken)))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.opus", ["-c:a", "libopus"]),
        ("a.ogg", ["-c:a", "libvorbis"]),
        ("vbr.mp3", ["-q:a", "5"]),
        ("bare.mp3", ["-write_xing", "0", "-id3v2_version", "0"]),
        ("tagged.mp3", ["-metadata", "title=" + 500 * "x"]),
        ("a.wav", ["-c:a", "pcm_f64le"]),
        ("rf64.wav", ["-rf64", "always"]),
        ("surround.flac", ["-ac", "6"]),
        ("slow.wav", ["-ar", "8000", "-c:a", "pcm_mulaw"]),
    ],
)
def test_what_ffmpeg_writes_is_heard_as_the_tone_that_it_is(tmp_path: Path, name: str, options: list[str]) -> None:
    (window,) = heard(made_by_ffmpeg(tmp_path, name, *options))
    assert abs(len(window) - 2 * RATE) < 0.06 * RATE
    spectrum = np.abs(np.fft.rfft(window[RATE // 2 : RATE // 2 + RATE]))
    assert int(np.argmax(spectrum)) == 440


@needs_ffmpeg
def test_a_wave_written_to_a_pipe_does_not_know_its_size_and_is_heard(tmp_path: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=2:sample_rate=16000", "-f", "wav", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(heard(data)[0]) == 2 * RATE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_an_hour_in_many_windows_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16", format="FLAC") as file:
        minute = np.stack([tone(60.0, 48_000)] * 2, axis=1)
        for _ in range(60):
            file.write(minute)
    code = (
        "import sys, resource\nfrom clipmill.source.sound import Hearing, open_sound\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with open(sys.argv[1], 'rb') as stream, open_sound(stream) as sound:\n"
        "    print(sum(1 for _ in sound.heard(Hearing(48000, 10.0, True))))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    windows, more = map(int, done.stdout.split())
    assert windows == MAX_WINDOWS
    assert more < 100_000  # kilobytes; the whole hour has 1.4 GB
