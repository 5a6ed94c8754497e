"""Of more queries than are to be ranked a random choice is ranked, in which small slices keep queries."""

import numpy as np
import pytest

from clipmill.evaluation.retrieval.draw import SLICE_QUERIES, draw_sample, evenly

RANDOM = np.random.default_rng(5)


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1 << 63, size=count).astype(np.uint64)


def test_as_many_as_there_are_are_no_sample() -> None:
    assert draw_sample(np.arange(500), keys(500), 500) is None


def test_those_with_the_least_keys_are_drawn() -> None:
    positions, order = np.arange(1000) * 3, keys(1000)
    sample = draw_sample(positions, order, 200)
    assert sample is not None
    assert sample.positions.tolist() == np.sort(positions[np.argsort(order)[:200]]).tolist()
    assert (len(sample), sample.queries, sample.weights) == (200, 1000, None)


def test_a_smaller_sample_is_a_part_of_a_larger_one() -> None:
    small, large = (draw_sample(np.arange(1000), keys(1000), most) for most in (100, 300))
    assert small is not None
    assert large is not None
    assert set(small.positions.tolist()) < set(large.positions.tolist())


@pytest.mark.parametrize("most", [2000, 10_000, 50_000])
def test_small_slices_keep_queries_and_the_sample_is_no_larger(most: int) -> None:
    sizes = [60_000, 30_000, 9_000, 900, 90, 9, 1]
    slices = RANDOM.permutation(np.repeat(np.arange(len(sizes)), sizes))
    others = RANDOM.integers(3, size=len(slices))
    sample = draw_sample(np.arange(len(slices)), keys(len(slices)), most, [slices, others])
    assert sample is not None
    assert most / 2 <= len(sample) <= most
    drawn = np.bincount(slices[sample.positions], minlength=len(sizes))
    enough = min(SLICE_QUERIES, most // 40)
    for size, got in zip(sizes, drawn.tolist(), strict=True):
        assert got >= min(size, enough) * 0.6
    assert drawn[4:].tolist() == [
        min(size, max(got, enough)) for size, got in zip(sizes[4:], drawn[4:].tolist(), strict=True)
    ]


def test_weights_add_up_to_the_queries_of_the_dataset_in_all_and_by_stratum() -> None:
    slices = np.repeat([0, 1, 2, -1], [80_000, 700, 40, 5000])
    sample = draw_sample(np.arange(len(slices)), keys(len(slices)), 4000, [slices])
    assert sample is not None
    assert sample.weights is not None
    assert sample.weights.sum() == pytest.approx(len(slices))
    assert sample.queries == len(slices)
    for number, stratum in enumerate(sample.strata):
        inside = sample.stratum == number
        assert inside.sum() == stratum.drawn
        assert sample.weights[inside].sum() == pytest.approx(stratum.queries)


def test_a_mean_of_weighted_queries_is_unbiased() -> None:
    slices = np.repeat([0, 1], [20_000, 300])
    values = np.where(slices == 1, 0.1, 0.8) + RANDOM.normal(0, 0.05, len(slices))
    found = []
    for seed in range(40):
        sample = draw_sample(np.arange(len(slices)), keys(len(slices), seed), 1000, [slices])
        assert sample is not None
        found.append(np.average(values[sample.positions], weights=sample.weights))
    assert np.mean(found) == pytest.approx(values.mean(), abs=4 * np.std(found) / np.sqrt(len(found)))


def test_an_even_choice_has_each_slice_as_often_as_the_dataset() -> None:
    slices = np.repeat([0, 1], [50_000, 1000])
    sample = draw_sample(np.arange(len(slices)), keys(len(slices)), 20_000, [slices])
    assert sample is not None
    chosen = evenly(sample.weights, len(sample), 0)
    share = np.mean(slices[sample.positions[chosen]] == 1)
    assert share == pytest.approx(1000 / 51_000, abs=0.006)
    assert evenly(None, 5, 0).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("most", [1, 2, 5, 40, 333])
def test_a_sample_of_any_size_is_no_larger_and_never_empty(most: int) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        slicings = [random.integers(-1, random.integers(1, 30), 400) for _ in range(random.integers(0, 4))]
        sample = draw_sample(np.arange(400), keys(400, seed), most, slicings)
        assert sample is not None
        assert most / 2 <= len(sample) <= most
        assert sum(stratum.queries for stratum in sample.strata) == 400
