"""How many images are copies of others: a heap of pairs near a cosine of 1 that stands apart from what is merely alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.vectors import Vectors, blocks, let_go

_COSINES = (0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)
_WIDER = 3
"""The band that a heap is held against reaches so many times as far from 1."""
_APART = 2.0
"""A heap has so many times the pairs of the band beside it. Where images are merely alike the band has the more, since it has
room for more: of vectors with k degrees of freedom, 3^(k/2) − 1 times as many."""
_LEAST_SHARE, _LEAST = 0.002, 3
_PRODUCTS = 200_000_000_000
"""Products of components: some seconds of a core."""
_FEWEST = 2000
_QUERIES, _GALLERY = 1024, 16_384


@dataclass(frozen=True)
class Copies:
    """``count`` of ``images`` are there besides one of their kind, at a cosine of ``cosine`` or more; ``compared`` images were
    looked at, drawn or all."""

    count: int
    images: int
    cosine: float
    compared: int


def find_copies(images: Vectors, seed: int = 0) -> Copies | None:
    """None where there are none, or what is alike is no heap of its own."""
    n = len(images)
    if n < 2:
        return None
    most = max(_FEWEST, _PRODUCTS // (n * images.dimension))
    chosen = draw(n, most, np.random.default_rng(seed))
    edges = sorted({edge for cosine in _COSINES for edge in (cosine, 1 - _WIDER * (1 - cosine))})
    reaching = dict(zip(edges, _neighbours(images, chosen, edges).T, strict=True))
    for cosine in _COSINES:
        near = reaching[cosine]
        beside = reaching[1 - _WIDER * (1 - cosine)] - near
        count = round(float(np.sum(near / (near + 1))) * n / len(chosen))
        if near.sum() >= _APART * beside.sum() and count >= max(_LEAST, _LEAST_SHARE * n):
            return Copies(count, n, cosine, len(chosen))
    return None


def _neighbours(images: Vectors, chosen: NDArray[np.int64], edges: list[float]) -> NDArray[np.int64]:
    """How many other images (m, e) reach each cosine, for each of the images that were chosen (m,)."""
    found = np.zeros((len(chosen), len(edges)), np.int64)
    for gallery in blocks(len(images), _GALLERY):
        others = _unit(images.values[gallery])
        for part in blocks(len(chosen), _QUERIES):
            cosines = _unit(images.values[chosen[part]]) @ others.T
            own = chosen[part] - gallery.start
            inside = np.flatnonzero((own >= 0) & (own < len(others)))
            cosines[inside, own[inside]] = -1
            for at, edge in enumerate(edges):
                found[part, at] += np.sum(cosines >= edge, axis=1)
        let_go(images.values)
    return found


def _unit(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    whole = vectors.astype(np.float32)
    norms = np.linalg.norm(whole, axis=1, keepdims=True)
    whole /= np.where(norms > 0, norms, 1)
    return whole
