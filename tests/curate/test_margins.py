"""Margins: what is said to find a pair finds it, and margins find as many pairs as are wanted."""

import numpy as np
import pytest

from clipmill.curate.cells import Cells, Margins, homes_of, looks_of, train_cells
from clipmill.curate.margins import Needs, Side, bands_of, choose_margins, edges, made_needs, needs_of
from clustered import image_and_caption_vectors, unit

N = 900


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(image_and_caption_vectors(N, 1, 32, seed=5)[0].astype(np.float32)).astype(np.float32)


@pytest.fixture(scope="module")
def cells(vectors: np.ndarray) -> Cells:
    return train_cells(vectors, 40, seed=1)


@pytest.fixture(scope="module")
def pairs(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero(np.triu(vectors @ vectors.T >= 0.85, 1))


@pytest.mark.parametrize("margins", [Margins(1e-6, 1e-6), Margins(0.02, 0.05), Margins(0.1, 0.01)])
def test_needs_tell_of_each_pair_whether_either_row_looks_into_the_home_of_the_other(
    vectors: np.ndarray, cells: Cells, pairs: tuple[np.ndarray, np.ndarray], margins: Margins
) -> None:
    first, second = pairs
    needs = needs_of(cells, Side.of(cells, vectors, first), Side.of(cells, vectors, second))
    homes = homes_of(cells, vectors)
    looks = np.zeros((N, len(cells)), bool)
    looks[np.arange(N), homes.cell] = True
    looks[looks_of(cells, vectors, homes, margins)] = True
    found = looks[first, homes.cell[second]] | looks[second, homes.cell[first]]
    assert 0 < found.sum() < len(found)
    # what is within rounding of a margin may be either
    assert (needs.found(margins) == found).mean() > 0.995
    np.testing.assert_allclose(needs.cosine, (vectors[first] * vectors[second]).sum(axis=1), atol=1e-5)


def test_margins_find_what_is_wanted_in_each_band_and_the_cheapest_are_taken(
    vectors: np.ndarray, cells: Cells, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    needs = needs_of(cells, *(Side.of(cells, vectors, side) for side in pairs))
    made = made_needs(cells, vectors, 0.85, seed=0)
    tried: list[Margins] = []

    def cost(margins: Margins) -> float:
        tried.append(margins)
        return margins.region

    chosen = choose_margins(needs, made, 0.85, cost)
    assert chosen.region == min(margins.region for margins in tried)
    for margins in tried:
        for these, in_band, of_all in ((needs, 0.985, 0.995), (made, 0.97, 0.99)):
            found = these.found(margins)
            assert found.mean() >= of_all
            bands = bands_of(these.cosine, 0.85)
            assert all(found[bands == band].mean() >= in_band for band in np.unique(bands))


def test_without_pairs_to_tune_on_those_that_are_made_set_a_margin(vectors: np.ndarray, cells: Cells) -> None:
    none = Needs(np.empty(0, np.float32), np.empty((0, 2), np.float32), np.empty((0, 2), np.float32))
    made = made_needs(cells, vectors, 0.95, seed=0)
    assert made.found(choose_margins(none, made, 0.95, lambda margins: margins.cell)).mean() >= 0.99


def test_made_pairs_have_the_cosines_of_the_lowest_edges(vectors: np.ndarray, cells: Cells) -> None:
    cosine = made_needs(cells, vectors, 0.9, seed=0).cosine.reshape(3, N)
    np.testing.assert_allclose(np.median(cosine, axis=1), [0.9, 0.91, 0.92], atol=1e-4)


@pytest.mark.parametrize(
    ("threshold", "lows"), [(0.95, [0.95, 0.96, 0.97, 0.98, 0.99]), (0.985, [0.985, 0.995]), (1.0, [1.0])]
)
def test_bands_go_from_the_threshold_to_one(threshold: float, lows: list[float]) -> None:
    np.testing.assert_allclose(edges(threshold), lows)
    cosines = np.array([threshold - 1e-6, *lows, 1.0], np.float32)
    assert bands_of(cosines, threshold).tolist() == [0, *range(len(lows)), len(lows) - 1]
