"""Queries to tune on and others to confirm with: drawn at random, disjoint, and no vector among them twice."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.index.build.gallery import Gallery, PartName
from clipmill.index.build.sample import sample_vectors

GALLERY_VECTORS = "gallery vectors"


@dataclass(frozen=True)
class Queries:
    """``kind`` is captions or images (the other side of the gallery), or the gallery's own vectors."""

    kind: str
    tuning: NDArray[np.float32]
    confirmation: NDArray[np.float32]

    @property
    def all(self) -> NDArray[np.float32]:
        return np.concatenate([self.tuning, self.confirmation])


def draw_queries(gallery: Gallery, count: int, seed: int, on_read: Callable[[], object] = lambda: None) -> Queries:
    """``count`` queries to tune on and ``count`` to confirm with, float32 (count, d); halves of what there is if fewer.

    Queries come from the other part of the dataset, since text queries lie where no image vector does and an index
    tuned on its own vectors promises too much; only a dataset of one part is tuned on its own vectors.
    """
    opposite: PartName = "captions" if gallery.part == "images" else "images"
    other = Gallery(gallery.dataset, opposite)
    kind, source = (opposite, other) if other.n else (GALLERY_VECTORS, gallery)
    vectors = np.unique(sample_vectors(source, 2 * count, seed, on_read).view(np.uint16), axis=0).view(np.float16)
    shuffled = np.random.default_rng(seed).permutation(vectors).astype(np.float32)
    half = (len(shuffled) + 1) // 2
    return Queries(kind, shuffled[:half], shuffled[half:])
