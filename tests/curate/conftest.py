"""Fixtures of the tests of near-duplicates and filtering."""

from collections.abc import Callable

import numpy as np
import pytest

from clustered import unit


@pytest.fixture
def beside() -> Callable[[np.ndarray, float, int], np.ndarray]:
    """Makes a unit vector at a given cosine to another."""

    def make(vector: np.ndarray, cosine: float, seed: int) -> np.ndarray:
        other = np.random.default_rng(seed).standard_normal(len(vector))
        other = unit(other - (other @ vector) * vector)
        return cosine * vector + np.sqrt(1 - cosine**2) * other

    return make
