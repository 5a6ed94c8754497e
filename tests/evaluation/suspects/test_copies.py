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
