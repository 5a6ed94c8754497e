"""A spectrogram shows pitch, time and loudness where they are to be read."""

import numpy as np
import pytest

from clipmill.core.errors import UserError
from clipmill.encoders.spectrogram import Spectrogram

SPECTROGRAM = Spectrogram(64)
RATE = SPECTROGRAM.rate


def sine(hertz: float, seconds: float = 2.0, loudness: float = 1.0) -> np.ndarray:
    return (loudness * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("hertz", [100, 440, 1000, 4000, 7000])
def test_a_tone_is_a_line_at_its_pitch(hertz: float) -> None:
    """Bands are evenly apart in mel, the highest in the first row."""
    mel = [2595 * np.log10(1 + one / 700) for one in (80, hertz, 7600)]
    row = 64 - (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65
    found = SPECTROGRAM.picture(sine(hertz))[:, 32].argmax()
    assert found == pytest.approx(row, abs=1)


def test_shades_are_decibels() -> None:
    """From -70, black, to those of a full sine, white: half as loud is six decibels less."""
    loud, soft = (int(SPECTROGRAM.picture(sine(1000, loudness=loudness)).max()) for loudness in (0.9, 0.45))
    assert loud - soft == pytest.approx(20 * np.log10(2) / 70 * 255, abs=1.5)
    assert SPECTROGRAM.picture(sine(1000, loudness=1e-6)).max() == 0


def test_what_comes_later_is_on_the_right_and_what_is_longer_is_cut() -> None:
    late = np.concatenate([np.zeros(RATE, np.float32), sine(1000, 1.0)])
    picture = SPECTROGRAM.picture(late).astype(int)
    assert picture[:, :30].max() == 0 < picture[:, 34:].max()
    more = np.concatenate([late, sine(300, 1.0)])
    assert np.array_equal(SPECTROGRAM.picture(more), SPECTROGRAM.picture(late))
    assert SPECTROGRAM.picture(np.zeros(0, np.float32)).max() == 0


def test_prepared_bytes_become_grey_pictures() -> None:
    prepared = SPECTROGRAM.prepare(sine(500))
    assert prepared.shape == (SPECTROGRAM.size,)
    (picture,) = SPECTROGRAM.pictures(prepared[None]).numpy()
    assert all(np.array_equal(channel, SPECTROGRAM.picture(sine(500))) for channel in picture)
    assert Spectrogram.from_dict(SPECTROGRAM.as_dict()) == SPECTROGRAM


@pytest.mark.parametrize("settings", [True, {}, {"rate": 16000}, {"side": 64, "hop": 160}])
def test_settings_that_are_not_known_are_refused(settings: object) -> None:
    with pytest.raises(UserError, match="`sounds` that this clipmill does not know"):
        Spectrogram.from_dict(settings)
    assert Spectrogram.from_dict(Spectrogram(64, seconds=3.0).as_dict()) == Spectrogram(64, seconds=3.0)
