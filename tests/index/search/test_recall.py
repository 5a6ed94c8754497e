"""Recall counts rows that belong among the best, and its interval covers the truth as often as it says."""

import numpy as np
import pytest

from clipmill.index.search.recall import hits, recall_interval


def test_a_row_that_ties_with_the_last_of_the_best_is_a_hit() -> None:
    exact = np.array([[0.9, 0.8, 0.8]], np.float32)
    returned = np.array([[0.9, 0.8, 0.7]], np.float32)
    assert hits(returned, exact).tolist() == [2]
    assert hits(np.array([[0.9, 0.8, -np.inf]], np.float32), exact).tolist() == [2]


def test_an_empty_query_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no query"):
        recall_interval(np.array([], np.int64), 10)


def test_perfect_recall_is_not_certain_recall() -> None:
    interval = recall_interval(np.full(100, 10), 10)
    assert interval.value == 1
    assert interval.high == 1
    assert interval.low == pytest.approx(
        0.025 ** (1 / 100), abs=1e-9
    )  # the recall with which 100 of 100 happen once in 40


def test_the_interval_covers_the_true_recall_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        chances = rng.beta(18, 1, size=300)  # queries differ: some are hard
        interval = recall_interval(rng.binomial(10, chances), 10)
        covered += interval.low <= 18 / 19 <= interval.high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_interval_is_narrower_than_if_each_query_were_one_coin() -> None:
    rates = np.tile([9, 10, 9, 9], 100)
    interval = recall_interval(rates, 10)
    coin = 1.96 * np.sqrt(0.925 * 0.075 / 400)
    assert interval.high - interval.low < 2 * coin / 2
