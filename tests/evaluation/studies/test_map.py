"""The map: what lies close in the space lies close on it, always in the same place, and its size is bounded."""

import numpy as np
import pytest

from captioned import unit
from clipmill.evaluation.studies import map
from clipmill.evaluation.studies.map import draw_map
from clipmill.evaluation.vectors import Vectors


def heaps(each: int, count: int = 4, spread: float = 0.15, dimension: int = 24, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, dimension))
    values = unit(np.repeat(centres, each, axis=0) + spread * rng.normal(size=(each * count, dimension)))
    return Vectors(np.arange(len(values)), values)


@pytest.mark.parametrize("each", [5, 40])
def test_heaps_of_the_space_are_heaps_of_the_map(each: int) -> None:
    drawn = draw_map(heaps(each))
    assert drawn.method == ("PCA" if each * 4 < 30 else "t-SNE")
    assert drawn.places.min() >= 0
    assert drawn.places.max() <= 1
    distances = np.linalg.norm(drawn.places[:, None] - drawn.places, axis=2)
    np.fill_diagonal(distances, np.inf)
    heap = np.repeat(np.arange(4), each)
    same = heap[distances.argmin(axis=1)] == heap
    assert same.mean() >= 0.95


def test_the_same_seed_draws_the_same_map() -> None:
    one, again = draw_map(heaps(20), 3), draw_map(heaps(20), 3)
    np.testing.assert_array_equal(one.places, again.places)


def test_of_many_images_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map, "SAMPLE", 90)
    many = heaps(200, dimension=4)
    drawn = draw_map(many, 1)
    assert len(drawn.positions) == len(np.unique(drawn.positions)) == 90
    assert list(drawn.positions) == sorted(drawn.positions)
    assert list(drawn.positions) != list(draw_map(many, 2).positions)


@pytest.mark.parametrize("count", [2, 50])
def test_images_that_are_all_the_same_lie_in_one_place(count: int) -> None:
    values = unit(np.ones((count, 5)))
    drawn = draw_map(Vectors(np.arange(count), values))
    np.testing.assert_allclose(drawn.places, 0.5)


def test_one_component_is_a_line() -> None:
    drawn = draw_map(Vectors(np.arange(3), np.array([[1], [-1], [1]], np.float16)))
    np.testing.assert_allclose(drawn.places, [[1, 0.5], [0, 0.5], [1, 0.5]])
