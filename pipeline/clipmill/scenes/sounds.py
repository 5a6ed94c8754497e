"""How a scene sounds, and what is said of that.

Every object is a note: its colour is the pitch, from red, the lowest, in the order of COLOURS; its shape is the kind of sound;
its size the length. The main object is heard first, then the others. The pattern of the background is the rhythm. The
background's colour, and where things lie, are not heard.
"""

import io
import math
import wave
from random import Random

import numpy as np
from numpy.typing import NDArray

from clipmill.scenes.scene import Scene, Thing
from clipmill.scenes.vocabulary import COLOURS, PATTERNS, SHAPES, SIZES

RATE = 16_000
"""Samples a second."""

HEARD_WORDINGS, SOUND_WORDINGS = 3, 5
"""Captions of a sound: the first say how it sounds, the others what is heard."""

_LOWEST_HZ = 200.0
_STEP = 1.35
_PITCHES = dict(zip(COLOURS, ("deep", "low", "mellow", "middle", "clear", "high", "shrill", "piercing"), strict=True))
_LENGTHS = dict(zip(SIZES, (("short", 0.1), ("medium", 0.2), ("long", 0.36)), strict=True))
_KINDS = dict(
    zip(
        SHAPES,
        (
            "pure tone", "square wave", "triangle wave", "sawtooth", "throb", "hiss", "bell", "swell", "pluck", "siren",
        ),
        strict=True,
    )
)  # fmt: skip
_RHYTHMS = dict(zip(PATTERNS, ("at once", "with pauses", "stuttering", "twice"), strict=True))
_GAPS = dict(zip(PATTERNS, (0.04, 0.16, 0.04, 0.04), strict=True))
"""Seconds between two notes."""
_STUTTERS_HZ = 20.0
_THROBS_HZ = 22.0
_RISE = 0.4
"""Of a siren: its pitch rises by twice as much from beginning to end."""
_EDGE_SECONDS = 0.006
_PARTIALS = 30
_HARMONICS: dict[str, dict[float, float]] = {
    "square": {n: 1 / n for n in range(1, _PARTIALS, 2)},
    "triangle": {n: (-1) ** (n // 2) / n**2 for n in range(1, _PARTIALS, 2)},
    "star": {n: 1 / n for n in range(1, _PARTIALS)},
    "ring": {1: 1.0, 2.76: 0.7, 5.4: 0.5, 8.93: 0.3},
    "diamond": {1: 1.0, 2: 0.5, 3: 0.3},
}
"""How strong each multiple of the pitch is; those of other shapes are pure."""
_DECAYS = {"ring": 3.0, "diamond": 7.0}
"""By what power of e these have faded at their end."""
_SMOOTHED = 96
"""Samples over which noise is smoothed: its band is about 300 Hz wide."""


def sound_captions(scene: Scene) -> list[str]:
    """What is said of the sound: three wordings of how it sounds, and two of what is heard."""
    pattern = scene.background.split()[0]
    rhythm = _RHYTHMS[pattern]
    notes = ", then ".join(f"a {_note_name(thing)}" for thing in scene.things)
    bare = " and ".join(f"a {_note_name(thing)}" for thing in scene.things)
    things = ", then ".join(f"a {thing.sized_name}" for thing in scene.things)
    count = ("one note", "two notes", "three notes")[len(scene.others)]
    return [
        f"{notes}, {rhythm}",
        f"{count} {rhythm}: {bare}",
        f"a recording of {notes}, played {rhythm}",
        f"the sound of {things}, on {pattern}",
        f"{things} on a {pattern} background, as a sound",
    ]


def shared_captions(scene: Scene) -> list[str]:
    """What is true of the picture and of the sound alike, in words that do not tell which is meant."""
    pattern = scene.background.split()[0]
    things = [f"a {thing.sized_name}" for thing in scene.things]
    return [f"{', then '.join(things)}, on {pattern}", f"{' and '.join(things)}, {pattern}"]


def _note_name(thing: Thing) -> str:
    return f"{_LENGTHS[thing.size][0]} {_PITCHES[thing.colour]} {_KINDS[thing.shape]}"


def render_sound(scene: Scene, random: Random) -> NDArray[np.float32]:
    """Samples, float32 (n,), within ±1, of `RATE` a second. Loudness, tuning, faint noise and when it
    begins are drawn by lot."""
    pattern = scene.background.split()[0]
    gap = np.zeros(round(_GAPS[pattern] * RATE))
    played = np.concatenate([part for thing in scene.things for part in (_note(thing, random), gap)])
    if _RHYTHMS[pattern] == "stuttering":
        played = played * (0.5 + 4 * np.sin(2 * np.pi * _STUTTERS_HZ * _times(len(played)))).clip(0, 1)
    if _RHYTHMS[pattern] == "twice":
        played = np.concatenate([played, np.zeros(round(0.1 * RATE)), played])
    lead = np.zeros(round(random.random() * 0.08 * RATE))
    whole = np.concatenate([lead, played * (0.5 + 0.4 * random.random())])
    return (whole + 0.0005 * _noise(len(whole), random)).astype(np.float32)


def encode_sound(samples: NDArray[np.float32]) -> bytes:
    """WAV of 16 bits."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return stream.getvalue()


def _times(count: int) -> NDArray[np.float64]:
    return np.arange(count) / RATE


def _noise(count: int, random: Random) -> NDArray[np.float64]:
    drawn: NDArray[np.float64] = np.random.default_rng(int(random.random() * 2**32)).uniform(-1, 1, count)
    return drawn


def _slow_noise(count: int, random: Random) -> NDArray[np.float64]:
    """Noise without its high frequencies, which makes a band of noise of a tone that it is multiplied with."""
    window = np.hanning(_SMOOTHED)
    slow: NDArray[np.float64] = np.convolve(_noise(count + _SMOOTHED - 1, random), window, mode="valid")
    return slow


def _note(thing: Thing, random: Random) -> NDArray[np.float64]:
    """One object, float64 (n,), within ±1."""
    hertz = _LOWEST_HZ * _STEP ** tuple(COLOURS).index(thing.colour) * (0.985 + 0.03 * random.random())
    times = _times(round(_LENGTHS[thing.size][1] * RATE))
    made = _of_kind(thing.shape, hertz, times, random)
    edge = np.minimum(times, times[-1] - times) / _EDGE_SECONDS
    faded: NDArray[np.float64] = made / np.abs(made).max() * edge.clip(0, 1)
    return faded


def _of_kind(shape: str, hertz: float, times: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
    """A waveform of this kind, not yet scaled."""
    envelope: NDArray[np.float64]
    share = times / times[-1]
    if shape == "arrow":  # rises
        times = times * (1 + _RISE * share)
    if shape == "cross":
        envelope = _slow_noise(len(times), random)
    elif shape == "heart":
        envelope = 0.5 - 0.5 * np.cos(2 * np.pi * _THROBS_HZ * times)
    elif shape == "moon":
        envelope = share**2
    else:
        envelope = np.exp(-_DECAYS.get(shape, 0.0) * share)
    return _partials(hertz, times, _HARMONICS.get(shape, {1: 1.0})) * envelope


def _partials(hertz: float, times: NDArray[np.float64], strengths: dict[float, float]) -> NDArray[np.float64]:
    """A sum of sines at multiples of a frequency, those that the rate can hold."""
    made = np.zeros(len(times))
    for multiple, strength in strengths.items():
        if multiple * hertz < RATE / 2:
            made += strength * np.sin(2 * math.pi * multiple * hertz * times)
    return made
