"""Images that lie alone and images that are nearly the same are found, and no others."""

import numpy as np
import pytest

from captioned import unit
from clipmill.evaluation.studies import outliers
from clipmill.evaluation.studies.outliers import find_outliers
from clipmill.evaluation.vectors import Vectors


def vectors(values: np.ndarray) -> Vectors:
    return Vectors(np.arange(len(values)), values)


def cloud(count: int, seed: int = 0) -> np.ndarray:
    """Vectors around one direction, none a near-duplicate of another."""
    random = np.random.default_rng(seed)
    return unit(np.eye(32)[0] + 0.15 * random.standard_normal((count, 32)))


def brute(values: np.ndarray) -> np.ndarray:
    """Cosines of each with the others, highest first."""
    wide = values.astype(np.float64)
    scores = wide @ wide.T
    np.fill_diagonal(scores, -np.inf)
    return -np.sort(-scores, axis=1)[:, :-1]


def test_planted_outliers_and_copies_are_found() -> None:
    values = cloud(200)
    values[[17, 60]] = unit(-np.eye(32)[[3, 5]])
    values[120] = values[9]
    values[150] = unit(values[30].astype(np.float64) + 0.02 * np.eye(32)[7])
    found = find_outliers(vectors(values), shown=2)
    expected = brute(values)
    assert sorted(found.positions.tolist()) == [17, 60]
    assert found.cosines == pytest.approx(np.sort(expected[:, 4])[:2], abs=1e-5)
    assert (found.near, found.queries, found.gallery) == (int((expected[:, 0] >= 0.98).sum()), 200, 200)
    assert found.near == 4
    assert [(pair.one, pair.other) for pair in found.closest] == [(9, 120), (30, 150)]
    assert found.nearest == pytest.approx(expected[:, 0].mean(), abs=1e-5)
    assert found.near_interval.low < found.near_share < found.near_interval.high


def test_two_odd_images_that_are_alike_are_outliers_still() -> None:
    values = cloud(100)
    values[[40, 41]] = unit(-np.eye(32)[[2, 2]])
    found = find_outliers(vectors(values), shown=2)
    assert sorted(found.positions.tolist()) == [40, 41]


def test_many_copies_of_one_image_do_not_hide_that_it_is_itself() -> None:
    values = np.concatenate([np.tile(cloud(1), (20, 1)), cloud(20, seed=1)])
    found = find_outliers(vectors(values))
    assert found.near == 20
    assert all(pair.one != pair.other for pair in found.closest)


def test_a_sample_is_compared_with_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.concatenate([cloud(500)] * 2)
    monkeypatch.setattr(outliers, "QUERIES", 50)
    found = find_outliers(vectors(values), seed=3)
    assert (found.queries, found.near, found.near_share) == (50, 50, 1)
    again = find_outliers(vectors(values), seed=3)
    assert np.array_equal(found.positions, again.positions)


@pytest.mark.parametrize(("images", "neighbour"), [(2, 1), (3, 2), (6, 5), (7, 5)])
def test_few_images_have_few_neighbours(images: int, neighbour: int) -> None:
    found = find_outliers(vectors(cloud(images)))
    assert found.neighbours == neighbour
    assert len(found.positions) == images
