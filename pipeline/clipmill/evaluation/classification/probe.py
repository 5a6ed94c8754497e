"""Linear classifiers on frozen embeddings: multinomial logistic regression, its L2 regularisation swept on a validation
split after the protocol of the CLIP paper (Radford et al. 2021, appendix A.3): coarse first, then finer around the best."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

COARSE = (-6.0, -4.0, -2.0, 0.0, 2.0)
FINER = (1.0, 0.5, 0.25)
FITS = len(COARSE) + 2 * len(FINER)
ITERATIONS = 500
_SMALL = 1 << 28
"""Multiply-adds per iteration below which threads cost more than they save, on a busy machine many times more."""
Step = Callable[[int], None]


@dataclass(frozen=True)
class Examples:
    """Vectors float32 (n, d) with their class numbers int64 (n,)."""

    vectors: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    def join(self, other: "Examples") -> "Examples":
        """These and the others."""
        return Examples(np.concatenate([self.vectors, other.vectors]), np.concatenate([self.classes, other.classes]))


@dataclass(frozen=True)
class Scale:
    """Subtracts ``mean`` (d,) and divides by ``spread``: the same C then means the same for vectors of any model, and the
    solver converges sooner. Which classifiers can be had does not change: the intercept is not penalised, and one factor
    for all dimensions is a factor of C."""

    mean: NDArray[np.float32]
    spread: float

    @staticmethod
    def of(vectors: NDArray[np.float32]) -> "Scale":
        """To a mean of 0 in each dimension and a mean square of 1 over all of these vectors (n, d)."""
        mean: NDArray[np.float32] = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = float(np.sqrt(np.mean(np.square(vectors - mean), dtype=np.float64)))
        return Scale(mean, spread or 1.0)

    def __call__(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = (vectors.astype(np.float32) - self.mean) / np.float32(self.spread)
        return scaled


@dataclass(frozen=True)
class Sweep:
    """``tried``: log₁₀ of C, the inverse strength of the L2 penalty, with the validation accuracy, ascending."""

    tried: tuple[tuple[float, float], ...]

    @property
    def best(self) -> float:
        """log₁₀ of the C that did best in validation; of several the least, which regularises most."""
        return max(self.tried, key=lambda point: (point[1], -point[0]))[0]


def sweep(train: Examples, validation: Examples, step: Step = lambda done: None) -> Sweep:
    """Tries C at every second power of ten from 10⁻⁶ to 10², then ever closer to the best, down to a quarter of a decade.
    Each fit starts from the one before. ``step`` is called after each of `FITS` tries."""
    model = _model(warm=True)
    tried: dict[float, float] = {}

    def attempt(exponent: float) -> None:
        if exponent not in tried and COARSE[0] <= exponent <= COARSE[-1]:
            model.set_params(C=10.0**exponent)
            _fit(model, train)
            tried[exponent] = float(np.mean(model.predict(validation.vectors) == validation.classes))
        step(1)

    for exponent in COARSE:
        attempt(exponent)
    for width in FINER:
        best = Sweep(tuple(tried.items())).best
        attempt(best - width)
        attempt(best + width)
    return Sweep(tuple(sorted(tried.items())))


def fit_predict(train: Examples, exponent: float, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The classes that a model trained at C = 10^``exponent`` gives to ``vectors`` (m, d)."""
    model = _model(warm=False).set_params(C=10.0**exponent)
    _fit(model, train)
    answers: NDArray[np.int64] = model.predict(vectors)
    return answers


def _model(*, warm: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=ITERATIONS, warm_start=warm)


@cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _fit(model: Any, train: Examples) -> None:
    from sklearn.exceptions import ConvergenceWarning

    products = train.vectors.size * int(train.classes.max(initial=0) + 1)
    threads = 1 if products < _SMALL else None
    with warnings.catch_warnings(), _thread_pools().limit(limits=threads):
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early regularises too; validation decides
        model.fit(train.vectors, train.classes)
