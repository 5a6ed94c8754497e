"""The test for worse slices raises false alarms as seldom as it says, and real ones when there is something."""

import itertools

import numpy as np
import pytest

from clipmill.evaluation.statistics.permutation import draws_needed, holm, p_worse, residual_levels


def images(random: np.random.Generator, count: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts of images whose captions succeed and fail together, or have cosines."""
    counts = random.integers(1, 6, count)
    if kind == "cosines":
        return counts * random.normal(0.3, 0.1, count), counts
    chance = random.beta(4, 1, count)
    return random.binomial(counts, chance).astype(float), counts


@pytest.mark.parametrize("kind", ["hits", "cosines"])
@pytest.mark.parametrize("members", [3, 40, 360])
def test_of_random_slices_few_are_called_worse(kind: str, members: int) -> None:
    random = np.random.default_rng(members)
    p_values = []
    for _ in range(800):
        values, level = residual_levels(*images(random, 400, kind))
        chosen = np.zeros(400, bool)
        chosen[random.choice(400, members, replace=False)] = True
        p_values.append(p_worse(values, level, chosen, 2000, random))
    for alpha in (0.01, 0.05, 0.2):
        rate = float(np.mean(np.array(p_values) <= alpha))
        assert rate <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 800)
    if members > 3:  # and it is not merely timid
        assert np.mean(np.array(p_values) <= 0.2) > 0.15


def test_after_correction_one_report_in_twenty_has_a_false_alarm_at_most() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        values, level = residual_levels(*images(random, 300, "hits"))
        slices = random.integers(0, 8, 300)
        draws = draws_needed(8, 0.05)
        found = np.array([p_worse(values, level, slices == number, draws, random) for number in range(8)])
        alarms += bool((holm(found) <= 0.05).any())
    assert alarms / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_the_p_value_is_the_share_of_all_choices_that_do_as_badly() -> None:
    sums, counts = np.array([0, 1, 3, 2, 5, 1, 0, 2.0]), np.array([2, 1, 3, 4, 5, 3, 1, 2])
    residual = sums - sums.sum() / counts.sum() * counts
    values, level = residual_levels(sums, counts)
    members = np.array([True, False, False, True, False, True, False, False])
    every = [residual[list(chosen)].sum() for chosen in itertools.combinations(range(8), 3)]
    exact = np.mean(np.array(every) <= residual[members].sum() + 1e-9)
    found = [p_worse(values, level, members, 20_000, np.random.default_rng(seed)) for seed in range(300)]
    assert np.mean(np.reciprocal(found)) == pytest.approx(1 / exact, rel=0.1)


def test_a_slice_that_fails_is_found_and_its_rest_is_not() -> None:
    random = np.random.default_rng(2)
    sums, counts = random.binomial(5, 0.9, 2000).astype(float), np.full(2000, 5)
    sums[:100] = random.binomial(5, 0.6, 100)
    values, level = residual_levels(sums, counts)
    members = np.arange(2000) < 100
    draws = draws_needed(500, 0.05)
    assert p_worse(values, level, members, draws, random) == 1 / (draws + 1)
    assert 500 / (draws + 1) <= 0.05
    assert p_worse(values, level, ~members, draws, random) == 1


def test_levels_keep_sums_and_are_few() -> None:
    random = np.random.default_rng(3)
    sums, counts = images(random, 5000, "cosines")
    values, level = residual_levels(sums, counts)
    assert len(values) <= 32
    assert values[level].sum() == pytest.approx(0, abs=1e-8)
    residual = sums - sums.sum() / counts.sum() * counts
    assert np.corrcoef(values[level], residual)[0, 1] > 0.99
    assert len(residual_levels(np.ones(5), np.ones(5))[0]) == 1


def test_holm_is_the_worked_example() -> None:
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    assert len(holm(np.empty(0))) == 0


def test_a_slice_is_compared_with_what_the_rest_is_in_the_dataset_and_not_in_the_sample() -> None:
    """An easy slice of another column, of which far more was drawn, makes the rest look better than it is."""
    weighted, unweighted = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        easy = np.repeat([False, True], [600, 600])
        weights = np.where(easy, 1.0, 50.0)
        hits = (random.random(1200) < np.where(easy, 0.99, 0.7)).astype(float)
        members = ~easy & (random.random(1200) < 0.5)
        values, level = residual_levels(hits, np.ones(1200))
        weighted.append(p_worse(values, level, members, 1000, random, weights))
        unweighted.append(p_worse(values, level, members, 1000, random))
    assert np.mean(np.array(weighted) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200) + 0.03
    assert np.mean(np.array(unweighted) <= 0.05) > 0.9


def test_a_worse_slice_of_which_more_was_drawn_is_still_found() -> None:
    random = np.random.default_rng(0)
    members = np.repeat([True, False], [400, 2000])
    weights = np.where(members, 1.0, 40.0)
    hits = (random.random(2400) < np.where(members, 0.6, 0.75)).astype(float)
    values, level = residual_levels(hits, np.ones(2400))
    assert p_worse(values, level, members, 5000, random, weights) < 0.001
