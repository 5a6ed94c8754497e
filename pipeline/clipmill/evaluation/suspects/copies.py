"""How many images are copies of others: a heap of pairs near a cosine of 1 that stands apart from what is merely alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.vectors import Vectors, blocks, let_go

_COSINES = (0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998)
_WIDER = 3
"""Two bands beside a heap reach so many times, and that many times again, as far from 1."""
_PURE = 2.0
"""A heap has at least so many times the pairs that are merely alike within it."""
_LINE, _PLANE, _MOST_GROWTH = 3**0.5, 3.0, 9.0
"""What is merely alike is so many times as much three times as far from 1: along a line, as pictures of a film are, on a plane,
and with four degrees of freedom. That something is a heap has to be plain on a plane too, however fast it grows."""
_REACHES = (1, _WIDER, _WIDER**2)
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
    edges = sorted({_edge(cosine, reach) for cosine in _COSINES for reach in _REACHES})
    reaching = dict(zip(edges, _neighbours(images, chosen, edges).T, strict=True))
    best: Copies | None = None
    for cosine in reversed(_COSINES):  # from near 1 outwards
        near = reaching[cosine]
        heap = _heap([float(reaching[_edge(cosine, reach)].sum()) / 2 for reach in _REACHES])
        if heap is None:
            continue
        share, uncertain = heap
        found = float(np.sum(near / (near + 1))) * share * n / len(chosen)
        if best is None or found > best.count + uncertain * n / len(chosen):
            best = Copies(round(found), n, cosine, len(chosen))
    return best if best is not None and best.count >= max(_LEAST, _LEAST_SHARE * n) else None


def _edge(cosine: float, reach: int) -> float:
    return round(1 - reach * (1 - cosine), 9)


def _heap(pairs: list[float]) -> tuple[float, float] | None:
    """Of the ``pairs`` that reach a cosine, reach `_WIDER` times as far from 1, and that many times again: the share of the
    first that is copies, and how many pairs that is unsure by. None where they are no heap.

    How many pairs are merely alike grows by a power of the distance: from one band to the next as from what lies within both.
    So the bands beside a heap, where hardly a copy lies, tell what else is in it.
    """
    inside, band, wider = pairs[0], pairs[1] - pairs[0], pairs[2] - pairs[1]
    growth = (wider + 1) / (band + 1)
    alike = band / (float(np.clip(growth, _LINE, _MOST_GROWTH)) - 1)
    at_most = (band + 2 * (band + 1) ** 0.5) / (float(np.clip(growth, _LINE, _PLANE)) - 1)
    if inside < 1 or inside < _PURE * at_most:
        return None
    return 1 - alike / inside, at_most


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
