"""Whether the vectors still look like those that an index was trained on: how far they lie from its coarse centroids."""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.index.build.gallery import Gallery
from clipmill.index.build.sample import sample_vectors

SAMPLE_ROWS = 10_000
MOST = 0.10
"""How much farther, as a share, vectors may lie from their centroids than when these were trained. Codes are of what
is left after the nearest centroid is taken away, so this is what they get coarser by."""


@dataclass(frozen=True)
class Drift:
    """Mean squared distances from the nearest coarse centroid: when the index was trained, and now."""

    then: float
    now: float

    @property
    def share(self) -> float:
        """By how much farther vectors lie now; below zero where they lie nearer."""
        return self.now / self.then - 1 if self.then else 0.0

    @property
    def too_far(self) -> bool:
        return self.share > MOST

    def __str__(self) -> str:
        return (
            f"vectors lie {abs(self.share):.1%} {'farther from' if self.share >= 0 else 'nearer to'} their centroids than "
            f"when these were trained ({MOST:.0%} farther is too far)"
        )


def gallery_distance(trained: Any, gallery: Gallery, seed: int) -> float | None:
    """`mean_distance` over a random sample of the gallery."""
    return mean_distance(trained, sample_vectors(gallery, SAMPLE_ROWS, seed).astype(np.float32))


def mean_distance(trained: Any, vectors: NDArray[np.float32]) -> float | None:
    """Mean squared distance of vectors (n, d) from the coarse centroid that each is filed under; None for an index that
    has none."""
    whole = faiss.downcast_index(trained)
    ivf = faiss.try_extract_index_ivf(whole)
    if ivf is None:
        return None
    if isinstance(whole, faiss.IndexPreTransform):
        for step in range(whole.chain.size()):
            vectors = faiss.downcast_VectorTransform(whole.chain.at(step)).apply(vectors)
    quantizer = faiss.downcast_index(ivf.quantizer)
    centroids = quantizer.reconstruct_n(0, quantizer.ntotal)
    _, nearest = quantizer.search(np.ascontiguousarray(vectors), 1)
    return float(np.mean(np.sum((vectors - centroids[nearest[:, 0]]) ** 2, axis=1)))
