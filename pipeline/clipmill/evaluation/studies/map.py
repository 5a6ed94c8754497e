"""A map of the images: each a place on a plane, near those that it looks like."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.studies.space import draw, unit
from clipmill.evaluation.vectors import Vectors

SAMPLE = 2000
"""Images on the map: five seconds of a core, and so many small pictures fit into a page."""
COMPONENTS = 50
"""Directions that neighbours are looked for in: distances are nearly those of the whole vectors, for a tenth of the time."""
_FEWEST = 30
"""Images below this are laid out by principal components, which need no neighbourhoods."""
_PERPLEXITY, _ROUNDS = 30.0, 500
_FLAT = 1e-9


@dataclass(frozen=True)
class Map:
    """``positions`` (n,) int64 are the images on it, drawn or all, in rising order, and ``places`` (n, 2) float64 where they
    lie, from 0 to 1. ``method`` is ``t-SNE`` (van der Maaten and Hinton 2008) or ``PCA``."""

    positions: NDArray[np.int64]
    places: NDArray[np.float64]
    method: str


def draw_map(images: Vectors, seed: int = 0) -> Map:
    """The map of a sample, drawn with ``seed``, of two or more images."""
    chosen = draw(len(images), SAMPLE, np.random.default_rng(seed))
    found = components(unit(images.values[chosen]))
    flat = found[:, :2]
    spread = float(flat[:, 0].std())
    if len(chosen) < _FEWEST or spread < _FLAT:
        return Map(chosen, _within(flat), "PCA")
    from sklearn.manifold import TSNE  # takes longer to import than small evaluations take

    perplexity = min(_PERPLEXITY, (len(chosen) - 1) / 3)
    start = (flat / spread * 1e-4).astype(np.float32)
    laid_out = TSNE(2, perplexity=perplexity, init=start, max_iter=_ROUNDS, random_state=seed, learning_rate="auto")
    return Map(chosen, _within(laid_out.fit_transform(found.astype(np.float32)).astype(np.float64)), "t-SNE")


def components(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first principal components (n, at least 2) of vectors (n, d). The largest entry of each direction is positive, so
    that the same vectors always have the same components."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :COMPONENTS]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    found: NDArray[np.float64] = centred @ directions
    return found if found.shape[1] > 1 else np.column_stack([found, np.zeros(len(found))])


def _within(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same places from 0 to 1 both ways, with their proportions, in the middle."""
    low, high = places.min(axis=0), places.max(axis=0)
    span = max(float((high - low).max()), _FLAT)
    moved: NDArray[np.float64] = (places - (low + high) / 2) / span + 0.5
    return moved
