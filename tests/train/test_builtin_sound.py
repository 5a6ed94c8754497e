"""The built-in model that hears knows scenes and sounds that it has never met: by their words, and one by the other."""

import numpy as np
import pytest

from benchmarks.sound_figures import figures
from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import load_model
from clipmill.encoders.names import BUILTIN_FOLDERS, BUILTIN_SOUND

ROWS, SEED, SIDE = 300, 77, 96


@pytest.fixture(scope="module")
def reached() -> dict[str, float]:
    return figures(BUILTIN_FOLDERS[BUILTIN_SOUND], ROWS, SEED, SIDE)


def test_it_finds_a_sound_by_how_it_sounds_and_by_what_is_heard(reached: dict[str, float]) -> None:
    assert reached["t2a_of_sounds_r@1"] > 0.5
    assert reached["t2a_of_things_r@1"] > 0.5


def test_it_finds_the_sound_of_a_picture_that_it_never_met_together(reached: dict[str, float]) -> None:
    assert reached["i2a_r@10"] > 10 * 10 / ROWS / 2
    assert reached["a2i_r@10"] > 10 * 10 / ROWS / 2


def test_it_is_small_and_says_that_it_hears() -> None:
    weights = BUILTIN_FOLDERS[BUILTIN_SOUND] / "open_clip_model.safetensors"
    assert weights.stat().st_size <= 8 << 20
    model = load_model(ModelSettings(model=BUILTIN_SOUND), "cpu")
    assert model.encoder.modalities == ("image", "text", "audio")
    assert np.isfinite(model.identity.logit_scale or np.nan)
