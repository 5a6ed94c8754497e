"""The threshold that is chosen from scores keeps few wrong texts and loses few right ones, and is not chosen by guessing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.words.capfilt.threshold import choose_threshold


def mixed(wrong: float, apart: float, n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores of texts, a share of which is wrong, and which are right: normal, of one width, so far ``apart``."""
    random = np.random.default_rng(seed)
    right = random.random(n) >= wrong
    return (random.normal(0, 1, n) + apart * right).astype(np.float32), right


def unmatched(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(99).normal(0, 1, n).astype(np.float32)


@pytest.mark.parametrize("wrong", [0.1, 0.4, 0.7])
def test_few_of_what_is_kept_are_wrong_and_few_right_ones_are_lost(wrong: float) -> None:
    scores, right = mixed(wrong, apart=5, n=20_000)
    chosen = choose_threshold(scores, unmatched(20_000), 4000)
    kept = scores >= chosen.value
    assert 0.01 < np.mean(~right[kept]) < 0.03
    assert np.mean(kept[right]) > 0.99
    assert chosen.wrong_before == pytest.approx(wrong, abs=0.02)
    assert chosen.wrong_kept == pytest.approx(np.mean(~right[kept]), abs=0.005)
    assert chosen.right_kept == pytest.approx(np.mean(kept[right]), abs=0.02)
    assert (chosen.pictures, chosen.texts) == (4000, 20_000)


def test_where_nothing_is_wrong_everything_is_kept() -> None:
    scores, _ = mixed(0, apart=9, n=1000)
    assert choose_threshold(scores, unmatched(1000), 1000).value == scores.min()


def test_the_threshold_follows_the_scale_of_the_scores() -> None:
    scores, _ = mixed(0.4, apart=5, n=5000)
    plain = choose_threshold(scores, unmatched(5000), 1).value
    shrunk = choose_threshold(0.03 * scores + 0.2, np.float32(0.03) * unmatched(5000) + np.float32(0.2), 1).value
    assert shrunk == pytest.approx(0.03 * plain + 0.2, abs=1e-5)


def test_a_model_that_cannot_tell_texts_apart_is_told_of() -> None:
    scores, _ = mixed(0.4, apart=0.3, n=5000)
    with pytest.raises(UserError, match="much like a picture's own"):
        choose_threshold(scores, unmatched(5000), 1000)


@pytest.mark.parametrize("few", [0, 49])
def test_too_few_texts_are_told_of(few: int) -> None:
    with pytest.raises(UserError, match=r"are needed: give --threshold"):
        choose_threshold(unmatched(few), unmatched(500), few)
    with pytest.raises(UserError, match=r"are needed: give --threshold"):
        choose_threshold(unmatched(500), unmatched(few), few)
