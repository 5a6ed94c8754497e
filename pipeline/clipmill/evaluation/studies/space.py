"""The shape of the space: where each tower's vectors lie, how widely they spread, and how far the towers are apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.statistics.clustered import clustered_mean
from clipmill.evaluation.vectors import Vectors, blocks

SAMPLE = 200_000
"""Vectors of a tower that are measured: far more than it has dimensions, so that little is left to chance."""
UNIFORMITY_SAMPLE = 4096
"""Vectors of which all pairs are compared: eight million pairs."""
_BLOCK = 8192
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Tower:
    """One tower's vectors, scaled to unit length: ``n`` of them drawn, or all. What takes two vectors is None of one."""

    n: int
    mean: NDArray[np.float64]
    effective_rank: float | None
    uniformity: float | None
    uniformity_n: int

    @property
    def norm_of_mean(self) -> float:
        """Length of the mean of the tower's unit vectors."""
        return float(np.linalg.norm(self.mean))

    def figures(self, side: str) -> list[Figure]:
        """The metrics of this tower, images or captions; those that take two vectors are left out of one."""
        measured = (
            ("norm_of_mean", self.norm_of_mean, self.n),
            ("effective_rank", self.effective_rank, self.n),
            ("uniformity", self.uniformity, self.uniformity_n),
        )
        return [metric(f"space.{name}_{side}").figure(value, n) for name, value, n in measured if value is not None]


@dataclass(frozen=True)
class Space:
    """Both towers, each None where the dataset has no such vectors; ``alignment`` is None where there are no pairs."""

    images: Tower | None
    captions: Tower | None
    alignment: Interval | None

    @property
    def modality_gap(self) -> float | None:
        """Distance between the means of both towers' unit vectors; None where one has none."""
        if self.images is None or self.captions is None:
            return None
        return float(np.linalg.norm(self.images.mean - self.captions.mean))

    @property
    def figures(self) -> list[Figure]:
        """What there is of the gap, the alignment and both towers."""
        figures = [] if self.modality_gap is None else [metric("space.modality_gap").figure(self.modality_gap)]
        figures += [] if self.alignment is None else [metric("space.alignment").figure(self.alignment)]
        towers = (("images", self.images), ("captions", self.captions))
        return figures + [figure for side, tower in towers if tower for figure in tower.figures(side)]


def describe_space(images: Vectors, captions: Vectors, ranks: Ranks | None, seed: int = 0) -> Space:
    """Measures both towers on a sample drawn with ``seed``, and alignment over the pairs that ``ranks`` (of captions) hold."""
    random = np.random.default_rng(seed)
    return Space(
        images=describe_tower(images.values, random),
        captions=describe_tower(captions.values, random),
        alignment=_alignment(images, captions, ranks, random) if ranks is not None else None,
    )


def describe_tower(values: NDArray[np.float16], random: np.random.Generator) -> Tower | None:
    """One tower from vectors (n, d); None of none. Memory: blocks, and a few d × d matrices."""
    chosen = draw(len(values), SAMPLE, random)
    if not len(chosen):
        return None
    dimension = values.shape[1]
    total, products = np.zeros(dimension), np.zeros((dimension, dimension))
    for part in blocks(len(chosen), _BLOCK):
        block = unit(values[chosen[part]])
        total += block.sum(axis=0)
        products += block.T @ block
    mean = total / len(chosen)
    several = len(chosen) > 1
    spread = draw(len(values), UNIFORMITY_SAMPLE, random)
    return Tower(
        n=len(chosen),
        mean=mean,
        effective_rank=effective_rank(products / len(chosen) - np.outer(mean, mean)) if several else None,
        uniformity=uniformity(unit(values[spread])) if several else None,
        uniformity_n=len(spread),
    )


def draw(count: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Positions (n,) of at most ``most`` of ``count`` items, all different and in rising order."""
    if count <= most:
        return np.arange(count)
    return np.sort(random.choice(count, most, replace=False, shuffle=False))


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Vectors (n, d) scaled to unit length in float64: rounding to float16 changes their length a little."""
    wide = vectors.astype(np.float64)
    scaled: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), _NEGLIGIBLE)
    return scaled


def effective_rank(covariance: NDArray[np.float64]) -> float:
    """exp of the entropy of the eigenvalues of a covariance (d, d), as shares; 0 where nothing varies."""
    shares = np.linalg.eigvalsh(covariance)
    if shares.max() <= _NEGLIGIBLE:
        return 0.0
    shares = shares[shares > _NEGLIGIBLE * shares.max()]
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def uniformity(vectors: NDArray[np.float64]) -> float:
    """log of the mean of exp(−2·squared distance) of unit vectors (n, d), n ≥ 2, over their n(n − 1) ordered pairs."""
    total = 0.0
    for part in blocks(len(vectors), 1024):
        closeness = np.exp(4 * np.minimum(vectors[part] @ vectors.T, 1.0) - 4)
        total += float(closeness.sum() - np.trace(closeness, offset=part.start))
    return float(np.log(total / (len(vectors) * (len(vectors) - 1))))


def _alignment(images: Vectors, captions: Vectors, ranks: Ranks, random: np.random.Generator) -> Interval | None:
    chosen = draw(len(ranks), SAMPLE, random)
    distances = np.empty(len(chosen))
    for part in blocks(len(chosen), _BLOCK):
        said = unit(captions.values[ranks.positions[chosen[part]]])
        shown = unit(images.values[ranks.best[chosen[part]]])
        distances[part] = np.sum((said - shown) ** 2, axis=1)
    return clustered_mean(distances, ranks.rows[chosen], None if ranks.weights is None else ranks.weights[chosen])
