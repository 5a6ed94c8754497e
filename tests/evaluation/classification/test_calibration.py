"""The calibration error of a classifier whose honesty is known, and how often its interval holds it."""

import numpy as np
import pytest

from clipmill.evaluation.classification.calibration import calibrate
from clipmill.evaluation.classification.zero_shot import classify


def answers(random: np.random.Generator, images: int, too_sure: float) -> tuple[np.ndarray, np.ndarray]:
    sure = random.uniform(0.2 + too_sure, 1, images)
    return sure, (random.random(images) < sure - too_sure).astype(float)


def test_error_by_hand() -> None:
    found = calibrate(np.array([0.5, 0.5, 0.9, 0.9]), np.array([1.0, 0, 1, 1]), 1.0, 0)
    assert found.error == pytest.approx(0.05)
    assert found.mean_confidence == pytest.approx(0.7)
    assert found.intervals["error"].low == found.intervals["error"].high == pytest.approx(0.05)


def test_confidences_on_a_border_belong_to_the_bin_below_and_one_to_the_last() -> None:
    found = calibrate(np.array([1 / 15, 1.0, 2 / 15, 0.067]), np.ones(4), 1.0, 0)
    assert found.counts[[0, 1, 14]].tolist() == [1, 2, 1]


def test_a_model_of_sigmoids_is_as_sure_as_its_sigmoid_says() -> None:
    images, classes = np.eye(4, dtype=np.float16), np.eye(4, dtype=np.float32)
    labels = np.array([0, 1, 2, 0])
    found = classify([(images, labels)], list("abcd"), classes, 10, logit_scale=8.0, logit_bias=-6.0).calibration
    assert found is not None
    assert found.mean_confidence == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert all("sigmoid" in figure.definition for figure in found.figures)
    softmax = classify([(images, labels)], list("abcd"), classes, 10, logit_scale=8.0).calibration
    assert softmax is not None
    assert softmax.mean_confidence == pytest.approx(np.exp(8) / (np.exp(8) + 3))
    assert not any("sigmoid" in figure.definition for figure in softmax.figures)


@pytest.mark.parametrize("too_sure", [0.0, 0.15])
def test_the_interval_holds_the_true_error_nearly_always(too_sure: float) -> None:
    random = np.random.default_rng(5)
    held = 0
    for trial in range(200):
        found = calibrate(*answers(random, 400, too_sure), 1.0, 300, trial).intervals["error"]
        held += found.low <= too_sure <= found.high
    assert held >= 180
