"""What is heard of a scene is what its captions say: pitch, length, kind and rhythm."""

import io
import wave
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from clipmill.scenes.scene import Scene, Thing, scene_of_row
from clipmill.scenes.sounds import RATE, SOUND_WORDINGS, encode_sound, render_sound, sound_captions
from clipmill.scenes.vocabulary import COLOURS, PATTERNS, SHAPES, SIZES

LONE = Scene(Thing("large", "red", "circle"), (), "in the middle", "plain white")


def lone(**changes: str) -> Scene:
    return replace(LONE, main=replace(LONE.main, **changes))


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / RATE)[spectrum.argmax()])


def seconds_heard(scene: Scene) -> float:
    """Of samples that are louder than the faint noise."""
    return float((np.abs(render_sound(scene, Random(1))) > 0.01).sum() / RATE)


def test_colours_are_pitches_that_rise() -> None:
    hertz = [loudest_hertz(render_sound(lone(colour=colour), Random(5))) for colour in COLOURS]
    assert hertz == sorted(hertz)
    assert hertz[0] == pytest.approx(200, rel=0.03)
    assert np.diff(np.log(hertz)).min() > np.log(1.25), "no two may be taken for each other"


def test_sizes_are_lengths() -> None:
    lengths = [seconds_heard(lone(size=size)) for size in SIZES]
    assert lengths[0] < 0.6 * lengths[1] < 0.6 * lengths[2]


@pytest.mark.parametrize(("shape", "third"), [("circle", 0.0), ("square", 1 / 3), ("triangle", 1 / 9)])
def test_waveforms_have_the_harmonics_of_their_names(shape: str, third: float) -> None:
    """The third harmonic beside the first: none of a sine, a third of a square wave, a ninth of a triangle wave."""
    samples = render_sound(lone(shape=shape), Random(3))
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    first = int(spectrum.argmax())
    around = spectrum[3 * first - 5 : 3 * first + 6].max()
    assert around / spectrum[first] == pytest.approx(third, abs=0.03)


def test_the_main_object_is_heard_first() -> None:
    scene = replace(LONE, others=(("left", Thing("small", "cyan", "circle")),), place="")
    samples = render_sound(scene, Random(2))
    assert loudest_hertz(samples[: RATE // 4]) < 300 < 1000 < loudest_hertz(samples[-RATE // 8 :])


def test_twice_is_heard_twice() -> None:
    once = lone()
    twice = replace(once, background=f"{PATTERNS[-1]} white")
    assert "twice" in sound_captions(twice)[0]
    assert seconds_heard(twice) == pytest.approx(2 * seconds_heard(once), rel=0.02)


def test_a_stuttering_sound_is_silent_in_between() -> None:
    stuttering = replace(LONE, background="dotted white")
    assert "stuttering" in sound_captions(stuttering)[0]
    assert seconds_heard(stuttering) < 0.8 * seconds_heard(LONE)


def test_captions_say_everything_that_is_heard_and_nothing_else() -> None:
    pitches, kinds = set(), set()
    for colour in COLOURS:
        for shape in SHAPES:
            said = sound_captions(lone(colour=colour, shape=shape))
            assert len(set(said)) == SOUND_WORDINGS
            pitches.add(said[0].split()[2])
            kinds.add(" ".join(said[0].split(",")[0].split()[3:]))
    assert (len(pitches), len(kinds)) == (len(COLOURS), len(SHAPES))
    other = replace(LONE, background="plain black", place="at the top")
    assert sound_captions(other) == sound_captions(LONE)


def test_the_same_row_sounds_the_same_and_all_fit_into_two_seconds() -> None:
    for row in range(40):
        samples = render_sound(*scene_of_row("held-out", 4, row))
        assert np.array_equal(samples, render_sound(*scene_of_row("held-out", 4, row)))
        assert len(samples) <= 2 * RATE
        assert np.abs(samples).max() <= 1


def test_files_hold_the_samples() -> None:
    samples = render_sound(LONE, Random(0))
    with wave.open(io.BytesIO(encode_sound(samples))) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    assert np.abs(read - samples).max() < 1 / 32767
