"""Cells: a row's home and looks are those of comparing it with every centroid that the margins admit."""

import numpy as np
import pytest

from clipmill.curate.cells import Cells, Margins, homes_of, k_means, looks_of, train_cells
from clustered import image_and_caption_vectors, unit


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(image_and_caption_vectors(1200, 1, 32, seed=0)[0].astype(np.float32)).astype(np.float32)


@pytest.fixture(scope="module")
def cells(vectors: np.ndarray) -> Cells:
    return train_cells(vectors, 60, seed=1)


def test_cells_are_as_many_as_asked_for_in_regions_that_hold_them_all(cells: Cells) -> None:
    assert len(cells) == pytest.approx(60, abs=8)
    assert len(cells.regions) == 8
    assert cells.starts[0] == 0
    assert cells.starts[-1] == len(cells.centroids)
    assert (np.diff(cells.starts) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(cells.centroids, axis=1), 1, atol=1e-5)
    assert cells.region_of(np.arange(len(cells))).tolist() == np.repeat(np.arange(8), np.diff(cells.starts)).tolist()


def test_home_is_the_nearest_cell_of_the_nearest_region(cells: Cells, vectors: np.ndarray) -> None:
    homes = homes_of(cells, vectors)
    assert homes.region.tolist() == (vectors @ cells.regions.T).argmax(axis=1).tolist()
    products = vectors @ cells.centroids.T
    products[cells.region_of(np.arange(len(cells)))[None, :] != homes.region[:, None]] = -2
    assert homes.cell.tolist() == products.argmax(axis=1).tolist()
    np.testing.assert_allclose(homes.cell_cosine, products.max(axis=1), atol=1e-6)


def test_looks_are_all_cells_within_both_margins_but_the_home(cells: Cells, vectors: np.ndarray) -> None:
    homes, margins = homes_of(cells, vectors), Margins(region=0.03, cell=0.04)
    near = vectors @ cells.regions.T >= homes.region_cosine[:, None] - 0.03
    wanted = vectors @ cells.centroids.T >= homes.cell_cosine[:, None] - 0.04
    wanted &= near[:, cells.region_of(np.arange(len(cells)))]
    wanted[np.arange(len(vectors)), homes.cell] = False
    rows, looked = looks_of(cells, vectors, homes, margins)
    found = np.zeros_like(wanted)
    found[rows, looked] = True
    assert (found == wanted).mean() > 0.9999  # but for rounding at the edge
    assert found.sum() == len(rows)
    assert found.any()


def test_k_means_is_the_same_again_and_nears_what_it_is_given(vectors: np.ndarray) -> None:
    once, again = (k_means(vectors, 20, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    drawn = vectors[np.random.default_rng(3).choice(len(vectors), 20, replace=False)]
    assert (vectors @ once.T).max(axis=1).mean() > (vectors @ drawn.T).max(axis=1).mean() + 0.01


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_sample_smaller_than_the_cells_asked_for_gives_as_many_as_it_can(vectors: np.ndarray, rows: int) -> None:
    cells = train_cells(vectors[:rows], 9, seed=0)
    assert 1 <= len(cells) <= 9
    assert homes_of(cells, vectors).cell.max() < len(cells)


def test_equal_vectors_are_one_cell_and_not_a_division_by_nothing() -> None:
    cells = train_cells(np.repeat(np.eye(1, 16, dtype=np.float32), 50, axis=0), 9, seed=0)
    assert np.isfinite(cells.centroids).all()
