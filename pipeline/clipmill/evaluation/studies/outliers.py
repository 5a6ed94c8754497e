"""Images among themselves: those that lie far from all others, and those that are nearly the same as another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.statistics.bootstrap import share_intervals
from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.vectors import Vectors, blocks
from clipmill.index.search.exact import exact_top_k

QUERIES = 2000
NEIGHBOURS = 5
NEAR = 0.98
"""Least cosine of two near-duplicates."""
_BLOCK = 65_536


@dataclass(frozen=True)
class NearPair:
    """Two images by position, and their cosine."""

    one: int
    other: int
    cosine: float


@dataclass(frozen=True)
class Outliers:
    """Of ``queries`` images, drawn or all, the nearest others in the whole gallery of ``gallery`` images.

    ``near`` counts images whose nearest other has a cosine of `NEAR` or more, and ``nearest`` is the mean of that cosine.
    ``positions`` are the images whose cosine with their ``neighbours``-th nearest other is lowest, lowest first, and
    ``cosines`` those cosines (Ramaswamy, Rastogi and Shim 2000): one odd companion, or a copy, hides none.
    ``closest`` are the near-duplicates of highest cosine, each pair named once.
    """

    queries: int
    gallery: int
    neighbours: int
    near: int
    near_interval: Interval
    nearest: float
    positions: NDArray[np.int64]
    cosines: NDArray[np.float64]
    closest: tuple[NearPair, ...]

    @property
    def near_share(self) -> float:
        """The share of images that have a near-duplicate."""
        return self.near / self.queries

    @property
    def figures(self) -> list[Figure]:
        """How many near-duplicates there are, and how near the nearest other image is."""
        near, nearest = metric("space.near_duplicates"), metric("space.nearest_cosine")
        return [near.figure(self.near_interval), nearest.figure(self.nearest, self.queries)]


def find_outliers(
    images: Vectors,
    *,
    shown: int = 8,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> Outliers:
    """Exact search of a sample of two or more images among all.

    Costs as much as ranking `QUERIES` captions, in blocks; ``shown`` images and pairs are named. ``progress`` is called
    with the images just compared with.
    """
    chosen = draw(len(images), QUERIES, np.random.default_rng(seed))
    count = min(NEIGHBOURS, len(images) - 1)
    scores, positions = exact_top_k(images.values[chosen].astype(np.float32), _blocks(images, progress), count + 1)
    itself = positions == chosen[:, None]
    itself[:, -1] |= ~itself.any(
        axis=1
    )  # an image with so many copies that it is not among its own best: leave out one
    cosines = scores[~itself].reshape(len(chosen), count).astype(np.float64)
    others = positions[~itself].reshape(len(chosen), count)
    near = cosines[:, 0] >= NEAR
    lowest = np.argsort(cosines[:, -1], kind="stable")[:shown]
    return Outliers(
        queries=len(chosen),
        gallery=len(images),
        neighbours=count,
        near=int(near.sum()),
        near_interval=share_intervals(near[:, None].astype(np.float64), chosen)[0],
        nearest=float(cosines[:, 0].mean()),
        positions=chosen[lowest],
        cosines=cosines[lowest, -1],
        closest=_closest(chosen, others[:, 0], cosines[:, 0], shown),
    )


def _blocks(images: Vectors, progress: Callable[[int], object]) -> Iterator[tuple[int, NDArray[np.float16]]]:
    for part in blocks(len(images), _BLOCK):
        yield part.start, images.values[part]
        progress(part.stop - part.start)


def _closest(
    one: NDArray[np.int64], other: NDArray[np.int64], cosines: NDArray[np.float64], count: int
) -> tuple[NearPair, ...]:
    pairs: dict[tuple[int, int], float] = {}
    for at in np.argsort(-cosines, kind="stable").tolist():
        if len(pairs) == count or cosines[at] < NEAR:
            break
        low, high = sorted((int(one[at]), int(other[at])))
        pairs.setdefault((low, high), float(cosines[at]))
    return tuple(NearPair(low, high, cosine) for (low, high), cosine in pairs.items())
