"""The interval of a mean over queries holds its share of truths, and counts images, not captions."""

import numpy as np
import pytest

from clipmill.evaluation.statistics.bootstrap import mean_intervals
from clipmill.evaluation.statistics.clustered import clustered_mean, student_quantile


@pytest.mark.parametrize("images", [3, 10, 100])
def test_intervals_cover_the_truth_where_captions_of_an_image_go_together(images: int) -> None:
    random = np.random.default_rng(images)
    covered = 0
    for _ in range(2000):
        each = random.integers(1, 6, images) if images > 3 else np.full(images, 4)
        rows = np.repeat(np.arange(images), each)
        values = 0.3 + random.normal(0, 0.1, images)[rows] + random.normal(0, 0.05, len(rows))
        found = clustered_mean(values, rows)
        assert found is not None
        covered += found.low <= 0.3 <= found.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def test_it_is_what_resampling_of_images_comes_to() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.arange(400), random.integers(1, 6, 400))
    values = random.normal(0, 1, 400)[rows] + random.normal(0, 0.5, len(rows))
    found = clustered_mean(values, rows)
    resampled = mean_intervals(values[:, None], rows, 5000)[0]
    assert found is not None
    assert found.value == pytest.approx(resampled.value)
    assert found.high - found.low == pytest.approx(resampled.high - resampled.low, rel=0.05)


def test_repeating_every_caption_makes_nothing_surer() -> None:
    values, rows = np.random.default_rng(1).normal(size=50), np.arange(50)
    once, twice = clustered_mean(values, rows), clustered_mean(np.repeat(values, 2), np.repeat(rows, 2))
    assert once is not None
    assert twice is not None
    assert (twice.low, twice.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_one_image_alone_says_nothing_of_others() -> None:
    found = clustered_mean(np.array([0.1, 0.3]), np.array([5, 5]))
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(0.2), -np.inf, np.inf)
    assert clustered_mean(np.empty(0), np.empty(0, np.int64)) is None


@pytest.mark.parametrize(
    ("freedom", "known"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (60, 2.000)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, known: float) -> None:
    assert student_quantile(freedom) == pytest.approx(known, rel=0.01)
