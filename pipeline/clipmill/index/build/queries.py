"""Queries to tune on and others to confirm with: drawn at random, disjoint, and no vector among them twice."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import GALLERY_VECTORS
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.sample import Sample, draw_sample


@dataclass(frozen=True)
class Queries:
    """``kind`` is the part on the other side of the gallery, such as captions, or the gallery's own vectors. Then ``own``
    int64 (q,) are the positions of `all` of them in the gallery: none is counted as a result of itself, which any index
    would find. ``positions`` int64 (q,) are those in the part that they were drawn from, whichever it is."""

    kind: str
    tuning: NDArray[np.float32]
    confirmation: NDArray[np.float32]
    own: NDArray[np.int64] | None = None
    positions: NDArray[np.int64] | None = None

    @property
    def all(self) -> NDArray[np.float32]:
        return np.concatenate([self.tuning, self.confirmation])

    def results_asked(self, k: int) -> int:
        """How many results to search for, so that k are left without the query itself."""
        return k + (self.own is not None)


def draw_queries(gallery: Gallery, count: int, seed: int, on_read: Callable[[], object] = lambda: None) -> Queries:
    """``count`` queries to tune on and ``count`` to confirm with, float32 (count, d); halves of what there is if fewer.

    Queries come from the other part of the dataset, since text queries lie where no image vector does and an index
    tuned on its own vectors promises too much; only a dataset of one part is tuned on its own vectors. A gallery of a single
    vector has nothing else to find.
    """
    other = gallery.opposite
    if not other.n:
        return draw_gallery_queries(gallery, count, seed, on_read)
    return Queries(other.part, *_halves(draw_sample(other, 2 * count, seed, on_read), seed))


def draw_gallery_queries(
    gallery: Gallery, count: int, seed: int, on_read: Callable[[], object] = lambda: None
) -> Queries:
    """As `draw_queries`, from the gallery's own vectors: what is asked with more of the same, as images with a picture."""
    drawn = Queries(GALLERY_VECTORS, *_halves(draw_sample(gallery, 2 * count, seed, on_read), seed))
    return replace(drawn, own=drawn.positions) if gallery.n > 1 else drawn


def _halves(sample: Sample, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], None, NDArray[np.int64]]:
    """What `Queries` holds after its kind, of a sample in which vectors may be there twice."""
    first = np.unique(sample.vectors.view(np.uint16), axis=0, return_index=True)[1]
    drawn = first[np.random.default_rng(seed).permutation(len(first))]
    vectors = sample.vectors[drawn].astype(np.float32)
    half = (len(drawn) + 1) // 2
    return vectors[:half], vectors[half:], None, sample.positions[drawn]
