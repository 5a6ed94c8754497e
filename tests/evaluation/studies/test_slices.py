"""Figures of a slice are those of its own queries, and a slice that does worse is called so, alone."""

import numpy as np
import pytest

from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.slices import Slices, measure_slices
from clipmill.evaluation.studies.slicing import SliceName, Slicing

ROWS = np.arange(600) * 7 + 3
GROUPS = np.arange(600) % 3


def slicing(numbers: np.ndarray, column: str = "source") -> Slicing:
    return Slicing(column, tuple(SliceName("value", f"g{number}") for number in range(numbers.max() + 1)), numbers)


def hits(rates: tuple[float, ...], each: int = 5, seed: int = 0) -> ByQuery:
    random = np.random.default_rng(seed)
    rows = np.repeat(ROWS, each)
    chance = np.repeat(np.array(rates)[GROUPS], each)
    shuffled = random.permutation(len(rows))
    return ByQuery("t2i_recall@1", rows[shuffled], (random.random(len(rows)) < chance)[shuffled].astype(float))


def worse(found: Slices) -> list[tuple[str, str, str]]:
    return [
        (column.column, part.name.text, figure.name)
        for column in found.columns
        for part in column.slices
        for figure in part.figures
        if figure.is_worse
    ]


def test_each_figure_is_the_mean_of_the_slices_own_queries() -> None:
    figure = hits((0.9, 0.5, 0.7))
    random = np.random.permutation(600)
    found = measure_slices(ROWS[random], [figure], [slicing(GROUPS[random])], samples=200)
    assert found.overall["t2i_recall@1"].value == pytest.approx(figure.values.mean())
    of_query = (figure.rows - 3) // 7 % 3
    for number, part in enumerate(found.columns[0].slices):
        interval = part.figures[0].interval
        assert part.images == 200
        assert (interval.value, interval.n) == (pytest.approx(figure.values[of_query == number].mean()), 1000)
        assert interval.low < interval.value < interval.high


def test_the_slice_that_does_worse_is_named_and_no_other() -> None:
    other = slicing(np.random.default_rng(5).integers(0, 10, 600), "year")
    cosines = ByQuery("clip_score", ROWS, np.where(GROUPS == 1, 0.25, 0.3) + ROWS % 11 / 100, proportions=False)
    found = measure_slices(ROWS, [hits((0.9, 0.6, 0.9)), cosines], [slicing(GROUPS), other], samples=100)
    assert worse(found) == [("source", "g1", "t2i_recall@1"), ("source", "g1", "clip_score")]
    assert found.comparisons == 2 * (3 + 10)
    assert worse(measure_slices(ROWS, [hits((0.8, 0.8, 0.8))], [slicing(GROUPS)], samples=100)) == []


def test_a_slice_without_queries_has_no_figure_and_one_alone_no_test() -> None:
    captioned = ByQuery("i2t_recall@1", ROWS[GROUPS == 2], np.ones(200))
    found = measure_slices(ROWS, [captioned], [slicing(GROUPS), slicing(np.zeros(600, np.int64), "one")], samples=50)
    source, one = found.columns
    assert [len(part.figures) for part in source.slices] == [0, 0, 1]
    assert source.slices[2].figures[0].p_value is None
    assert one.slices[0].figures[0].interval.value == 1
    assert found.comparisons == 0


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again = (measure_slices(ROWS, [hits((0.9, 0.8, 0.9))], [slicing(GROUPS)], samples=50, seed=4) for _ in "ab")
    assert first == again


def test_an_image_without_captions_counts_among_its_slice() -> None:
    few = ByQuery("t2i_recall@1", ROWS[:3], np.array([1.0, 0, 1]))
    found = measure_slices(ROWS, [few], [slicing(GROUPS)], samples=50)
    assert [part.images for part in found.columns[0].slices] == [200, 200, 200]
    assert [part.figures[0].interval.n for part in found.columns[0].slices] == [1, 1, 1]
