"""Intervals resample images, and hold the truth as often as they say."""

import numpy as np
import pytest

from clipmill.evaluation.statistics import bootstrap
from clipmill.evaluation.statistics.bootstrap import mean_intervals, median_interval


def test_intervals_are_those_of_drawing_images_one_by_one() -> None:
    random = np.random.default_rng(1)
    rows = np.sort(random.integers(80, size=300))
    values = random.random((300, 2))
    images = np.unique(rows)
    by_image = [values[rows == image] for image in images]
    means = []
    for _ in range(4000):
        drawn = np.concatenate([by_image[i] for i in random.integers(len(images), size=len(images))])
        means.append(drawn.mean(axis=0))
    expected = np.quantile(means, [0.025, 0.975], axis=0)
    for column, interval in enumerate(mean_intervals(values, rows, 4000)):
        assert (interval.low, interval.high) == pytest.approx(expected[:, column], abs=0.004)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random((50, 1))
    assert mean_intervals(values, np.arange(50), 200, 3) == mean_intervals(values, np.arange(50), 200, 3)
    assert mean_intervals(values, np.arange(50), 200, 3) != mean_intervals(values, np.arange(50), 200, 4)


def test_the_median_and_its_interval_follow_the_images() -> None:
    random = np.random.default_rng(0)
    ranks = np.repeat(random.integers(1, 40, size=300), 3).astype(float)
    interval = median_interval(ranks, np.repeat(np.arange(300), 3), 400)
    assert interval.value == np.median(ranks)
    assert interval.low <= interval.value <= interval.high
    assert 2 <= interval.high - interval.low <= 10


def test_many_images_are_drawn_one_by_one_to_the_same_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    rows = np.sort(random.integers(200, size=700))
    values = (random.random((700, 2)) < 0.7).astype(float)
    by_outcome = mean_intervals(values, rows, 4000)
    monkeypatch.setattr(bootstrap, "_ONE_BY_ONE", 0)
    for one, other in zip(by_outcome, mean_intervals(values, rows, 4000), strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.006)


@pytest.mark.parametrize("kind", ["differing captions", "reciprocal ranks", "paired difference"])
def test_the_truth_lies_in_95_of_100_intervals_of_clustered_queries(kind: str) -> None:
    random = np.random.default_rng(5)

    def draw(images: int) -> tuple[np.ndarray, np.ndarray]:
        quality = random.beta(3, 2, images)
        rows = np.repeat(np.arange(images), random.integers(1, 8, images) if kind == "differing captions" else 4)
        if kind == "reciprocal ranks":
            return 1 / np.ceil(np.exp(random.normal(2 - 3 * quality[rows]))), rows
        hit = (random.random(len(rows)) < quality[rows]).astype(float)
        return (-hit * (random.random(len(rows)) < 0.1) if kind == "paired difference" else hit), rows

    truth = draw(1_000_000)[0].mean()
    held = 0
    for trial in range(400):
        values, rows = draw(300)
        interval = mean_intervals(values[:, None], rows, 400, trial)[0]
        held += interval.low <= truth <= interval.high
    assert 0.92 <= held / 400 <= 0.98
