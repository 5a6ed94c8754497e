"""Copies are counted as those that are there besides one of their kind; what is merely alike is no copy."""

import numpy as np
import pytest

from clipmill.evaluation.suspects.copies import find_copies
from clipmill.evaluation.vectors import Vectors
from clustered import image_and_caption_vectors, unit

N, DIMENSION = 2500, 64


def planted(seed: int, rate: float, noise: float) -> tuple[np.ndarray, int]:
    """Clustered vectors, of which some come again with a little noise: several times the same one, too."""
    images, _ = image_and_caption_vectors(N, 1, DIMENSION, seed)
    rng, count = np.random.default_rng(seed + 1), round(rate * N)
    again = rng.integers(0, N - count, count)
    images[N - count :] = unit(images[again] + rng.normal(0, noise, (count, DIMENSION))).astype(np.float16)
    return images[rng.permutation(N)], count


@pytest.mark.parametrize("noise", [0.0, 0.004, 0.012])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.06, 0.1])
def test_copies_are_counted_within_a_tenth(rate: float, noise: float) -> None:
    for seed in (501, 502, 503):
        images, count = planted(seed, rate, noise)
        found = find_copies(Vectors(np.arange(N), images))
        assert found is not None
        assert found.count == pytest.approx(count, rel=0.1)
        assert found.compared == N


def test_what_is_merely_alike_is_no_copy() -> None:
    for seed in range(600, 610):
        images, _ = image_and_caption_vectors(N, 1, DIMENSION, seed)
        assert find_copies(Vectors(np.arange(N), images)) is None
        near, _ = image_and_caption_vectors(N, 1, 4, seed)  # so few directions that many lie very near to each other
        assert find_copies(Vectors(np.arange(N), near)) is None


def test_of_many_images_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.evaluation.suspects.copies._PRODUCTS", 1)
    images, count = planted(700, 0.1, 0.0)
    found = find_copies(Vectors(np.arange(N), images))
    assert found is not None
    assert found.compared == 2000
    assert found.count == pytest.approx(count, rel=0.1)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_almost_nothing_has_no_copies(n: int) -> None:
    assert find_copies(Vectors(np.arange(n), np.ones((n, 4), np.float16))) is None


@pytest.mark.parametrize("seed", range(900, 906))
def test_copies_are_counted_among_images_that_are_much_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heaps = np.repeat(rng.normal(size=(N // 10, DIMENSION)), 10, axis=0)
    few = rng.normal(size=(len(heaps), 3)) @ rng.normal(size=(3, DIMENSION))  # ways in which pictures of a heap differ
    images = unit(heaps + 0.3 * few).astype(np.float16)
    images[-25:] = unit(images[:25].astype(np.float64) + rng.normal(0, 0.0005, (25, DIMENSION))).astype(np.float16)
    found = find_copies(Vectors(np.arange(len(images)), images))
    assert found is not None
    assert found.count == pytest.approx(25, abs=2.5)
    cosines = images.astype(np.float64) @ images.T.astype(np.float64)
    assert np.sum(np.triu(cosines, 1) > 0.98) > 300


def test_pictures_of_a_film_are_alike_and_no_copies() -> None:
    rng = np.random.default_rng(5)
    turns = np.cumsum(rng.random(N) * 0.02)
    plane = np.linalg.qr(rng.normal(size=(DIMENSION, 2)))[0].T
    for stretch in (0.3, 1.0, 3.0):
        images = np.cos(stretch * turns)[:, None] * plane[0] + np.sin(stretch * turns)[:, None] * plane[1]
        found = find_copies(Vectors(np.arange(N), images.astype(np.float16)))
        assert found is None or found.count < 0.02 * N
