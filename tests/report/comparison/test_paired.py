"""Paired differences are those of drawing images one by one, and their intervals hold the truth as often as they say."""

import numpy as np
import pytest
from numpy.typing import NDArray

from clipmill.report.comparison.paired import class_recall_difference, mean_differences, median_difference

SAMPLES = 6000


def two_models(images: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Hits of two models on captions of ``images`` images, some with more captions than others."""
    random = np.random.default_rng(seed)
    owners = random.permutation(np.repeat(np.arange(images), random.integers(1, 6, images)))
    hard = random.random(images)[owners]
    first, second = (random.random((2, len(owners))) > hard * np.array([[0.8], [0.9]])).astype(float)
    return first, second, owners


def drawn_one_by_one(owners: NDArray[np.int64], seed: int = 99) -> list[NDArray[np.int64]]:
    """The queries of images drawn with replacement, written as the definition says."""
    random = np.random.default_rng(seed)
    names = np.unique(owners)
    of_image = {name: np.flatnonzero(owners == name) for name in names}
    return [np.concatenate([of_image[name] for name in random.choice(names, len(names))]) for _ in range(SAMPLES)]


def test_mean_differences_are_those_of_drawing_images_one_by_one() -> None:
    first, second, owners = two_models(60, 0)
    values = np.stack([first, 1 / (2 - first)], axis=1), np.stack([second, 1 / (2 - second)], axis=1)
    found = mean_differences(*values, owners, SAMPLES, proportions=False)
    draws = drawn_one_by_one(owners)
    for column, difference in enumerate(found):
        one, other = values[0][:, column], values[1][:, column]
        expected = np.array([other[draw].mean() - one[draw].mean() for draw in draws])
        assert difference.value == pytest.approx(other.mean() - one.mean())
        assert (difference.low, difference.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=0.009)
        beyond = min((expected <= 0).mean(), (expected >= 0).mean())
        assert difference.p == pytest.approx(2 * beyond, abs=0.02)
        assert difference.n == len(owners)


def test_the_difference_of_medians_is_that_of_drawing_images_one_by_one() -> None:
    random = np.random.default_rng(1)
    owners = np.repeat(np.arange(80), 2)
    first = random.integers(1, 60, 160).astype(float)
    second = np.maximum(1, first + random.integers(-20, 10, 160))
    found = median_difference(first, second, owners, SAMPLES)
    expected = [np.median(second[draw]) - np.median(first[draw]) for draw in drawn_one_by_one(owners)]
    assert found.value == np.median(second) - np.median(first)
    assert (found.low, found.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=1.0)


def test_the_difference_of_class_recalls_is_that_of_drawing_images_one_by_one() -> None:
    random = np.random.default_rng(2)
    labels = random.choice(5, 120, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    first, second = (random.random((2, 120)) < [[0.6], [0.75]]).astype(float)

    def mean_recall(hits: NDArray[np.float64], draw: NDArray[np.int64]) -> float:
        return float(np.mean([hits[draw][labels[draw] == name].mean() for name in np.unique(labels[draw])]))

    found = class_recall_difference(labels, first, second, SAMPLES)
    everyone = np.arange(120)
    assert found.first == pytest.approx(mean_recall(first, everyone))
    assert found.second == pytest.approx(mean_recall(second, everyone))
    draws = drawn_one_by_one(everyone)
    expected = [mean_recall(second, draw) - mean_recall(first, draw) for draw in draws]
    assert (found.low, found.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=0.02)


def test_the_true_difference_lies_in_95_of_100_intervals() -> None:
    random = np.random.default_rng(3)
    owners = np.repeat(np.arange(150), 4)
    held = worse = 0
    for trial in range(400):
        quality = random.beta(3, 2, size=150)[owners]
        first = (random.random(600) < quality).astype(float)
        kept = np.where(random.random(600) < 0.9, first, 0)
        (found,) = mean_differences(first[:, None], kept[:, None], owners, 400, trial, proportions=True)
        held += found.low <= -0.06 <= found.high
        worse += found.high < 0
    assert 0.92 <= held / 400 <= 0.98
    assert worse / 400 > 0.99


def test_models_that_do_not_differ_are_told_apart_one_time_in_twenty() -> None:
    random = np.random.default_rng(4)
    owners = np.repeat(np.arange(150), 4)
    told = 0
    for trial in range(400):
        quality = random.beta(3, 2, size=150)[owners]
        first, second = (random.random((2, 600)) < quality).astype(float)
        (found,) = mean_differences(first[:, None], second[:, None], owners, 400, trial, proportions=True)
        told += found.p < 0.05
    assert 0.02 <= told / 400 <= 0.08


def test_pairs_show_what_two_intervals_hide() -> None:
    random = np.random.default_rng(5)
    first = (random.random(1000) < 0.7).astype(float)
    second = np.where(random.random(1000) < 0.02, 0, first)
    (found,) = mean_differences(first[:, None], second[:, None], np.arange(1000), 2000, proportions=True)
    assert found.high < 0
    assert found.high - found.low < 0.02
    unpaired = 2 * 1.96 * np.sqrt(2 * 0.7 * 0.3 / 1000)
    assert found.high - found.low < unpaired / 3


def test_few_images_without_a_difference_are_not_certain_of_it() -> None:
    same = np.ones((6, 1))
    (found,) = mean_differences(same, same, np.array([0, 0, 1, 1, 2, 2]), 200, proportions=True)
    assert (found.value, found.p) == (0, 1)
    assert (found.low, found.high) == pytest.approx((-(1 - 0.025 ** (1 / 3)), 1 - 0.025 ** (1 / 3)))
    (alike,) = mean_differences(same, 0 * same, np.arange(6), 200, proportions=True)
    assert (alike.value, alike.low) == (-1, -1)
    assert -0.6 < alike.high < -0.5
    assert alike.p == pytest.approx(2 / 201)


def test_captions_of_one_image_count_as_one() -> None:
    random = np.random.default_rng(6)
    first, second = (random.random((2, 200)) < [[0.6], [0.7]]).astype(float)
    (single,) = mean_differences(first[:, None], second[:, None], np.arange(200), SAMPLES, proportions=True)
    (five,) = mean_differences(
        np.repeat(first, 5)[:, None],
        np.repeat(second, 5)[:, None],
        np.repeat(np.arange(200), 5),
        SAMPLES,
        proportions=True,
    )
    assert (five.low, five.high) == pytest.approx((single.low, single.high), abs=0.01)
