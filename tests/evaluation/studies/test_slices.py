"""Figures of a slice are those of its own queries, and a slice that does worse is called so, alone."""

import numpy as np
import pytest

from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import SlicesPart
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.slices import measure_slices
from clipmill.evaluation.studies.slicing import SliceName, Slicing

T2I, SCORE = metric("t2i.recall@1"), metric("alignment.clip_score")
ROWS = np.arange(600) * 7 + 3
GROUPS = np.arange(600) % 3


def slicing(numbers: np.ndarray, column: str = "source") -> Slicing:
    return Slicing(column, tuple(SliceName("value", f"g{number}") for number in range(numbers.max() + 1)), numbers)


def hits(rates: tuple[float, ...], each: int = 5, seed: int = 0) -> ByQuery:
    random = np.random.default_rng(seed)
    rows = np.repeat(ROWS, each)
    chance = np.repeat(np.array(rates)[GROUPS], each)
    shuffled = random.permutation(len(rows))
    return ByQuery(T2I, rows[shuffled], (random.random(len(rows)) < chance)[shuffled].astype(float))


def worse(found: SlicesPart) -> list[tuple[str, str, str]]:
    return [
        (column.column, part.text, figure.key)
        for column in found.columns
        for part in column.slices
        for figure in part.figures
        if figure.worse
    ]


def test_each_figure_is_the_mean_of_the_slices_own_queries() -> None:
    figure = hits((0.9, 0.5, 0.7))
    random = np.random.permutation(600)
    found = measure_slices(ROWS[random], [figure], [slicing(GROUPS[random])])
    assert found.figures[0].value == pytest.approx(figure.values.mean())
    of_query = (figure.rows - 3) // 7 % 3
    for number, part in enumerate(found.columns[0].slices):
        measured = part.figures[0]
        assert part.images == 200
        assert (measured.value, measured.n) == (pytest.approx(figure.values[of_query == number].mean()), 1000)
        assert measured.low < measured.value < measured.high


def test_the_slice_that_does_worse_is_named_and_no_other() -> None:
    other = slicing(np.random.default_rng(5).integers(0, 10, 600), "year")
    cosines = ByQuery(SCORE, ROWS, np.where(GROUPS == 1, 0.25, 0.3) + ROWS % 11 / 100)
    found = measure_slices(ROWS, [hits((0.9, 0.6, 0.9)), cosines], [slicing(GROUPS), other])
    assert worse(found) == [("source", "g1", T2I.key), ("source", "g1", SCORE.key)]
    assert found.comparisons == 2 * (3 + 10)
    assert worse(measure_slices(ROWS, [hits((0.8, 0.8, 0.8))], [slicing(GROUPS)])) == []


def test_a_slice_without_queries_has_no_figure_and_one_alone_no_test() -> None:
    captioned = ByQuery(metric("i2t.recall@1"), ROWS[GROUPS == 2], np.ones(200))
    found = measure_slices(ROWS, [captioned], [slicing(GROUPS), slicing(np.zeros(600, np.int64), "one")])
    source, one = found.columns
    assert [len(part.figures) for part in source.slices] == [0, 0, 1]
    assert source.slices[2].figures[0].p_value is None
    assert one.slices[0].figures[0].value == 1
    assert found.comparisons == 0


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again = (measure_slices(ROWS, [hits((0.9, 0.8, 0.9))], [slicing(GROUPS)], seed=4) for _ in "ab")
    assert first == again


def test_an_image_without_captions_counts_among_its_slice() -> None:
    few = ByQuery(T2I, ROWS[:3], np.array([1.0, 0, 1]))
    found = measure_slices(ROWS, [few], [slicing(GROUPS)])
    assert [part.images for part in found.columns[0].slices] == [200, 200, 200]
    assert [part.figures[0].n for part in found.columns[0].slices] == [1, 1, 1]
