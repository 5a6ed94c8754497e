"""Whether an index can still tell vectors apart that came since it was trained: by what its training loses of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.sample import sample_vectors

SAMPLE_ROWS = 10_000
MOST = 0.10
"""How much more, as a share, may be lost of vectors than when the index was trained."""
_PIECE_ROWS = 1000
_PIECES = 64
"""New rows are looked at in at most so many runs, as each takes a read of its own."""
_SURE = 2.0
"""Standard errors by which new rows must be beyond what is too much: of a few, the mean says little."""

Run = tuple[int, int]
"""Positions of a gallery from the first to before the last."""


@dataclass(frozen=True)
class Drift:
    """Mean squared errors of reconstruction: when the index was trained, now, and of the ``rows`` new vectors alone, at least
    ``new_least`` of them; None where there are none."""

    then: float
    now: float
    rows: int = 0
    new: float | None = None
    new_least: float | None = None

    @property
    def share(self) -> float:
        """By how much more is lost now; below zero where it is less."""
        return self._share(self.now)

    @property
    def too_far(self) -> bool:
        return self.share > MOST or (self.new_least is not None and self._share(self.new_least) > MOST)

    def _share(self, error: float) -> float:
        return error / self.then - 1 if self.then else 0.0

    def __str__(self) -> str:
        told = f"it reconstructs vectors {_words(self.share)} than when it was trained"
        if self.new is not None:
            told += f", the {self.rows:,} new ones that were looked at {_words(self._share(self.new))}"
        return f"{told} ({MOST:.0%} worse is too much)"


def _words(share: float) -> str:
    return f"{abs(share):.1%} {'worse' if share >= 0 else 'better'}"


def measure_drift(trained: Any, gallery: Gallery, new: Sequence[Run], then: float, seed: int) -> Drift:
    """Drift of the whole gallery and of its ``new`` runs apart, which a mean over everything would hide."""
    now = gallery_error(trained, gallery, seed)
    errors = reconstruction_errors(trained, _drawn(gallery, new, seed)) if new else None
    if errors is None or not len(errors):
        return Drift(then, now or 0.0)
    mean = float(errors.mean())
    doubt = float(errors.std(ddof=1)) / np.sqrt(len(errors)) if len(errors) > 1 else np.inf
    return Drift(then, now or 0.0, len(errors), mean, max(0.0, mean - _SURE * float(doubt)))


def gallery_error(trained: Any, gallery: Gallery, seed: int) -> float | None:
    """Mean of `reconstruction_errors` over a random sample of the gallery; None for an index without lists."""
    errors = reconstruction_errors(trained, sample_vectors(gallery, SAMPLE_ROWS, seed).astype(np.float32))
    return None if errors is None else float(errors.mean())


def runs_error(trained: Any, gallery: Gallery, runs: Sequence[Run], seed: int) -> float | None:
    """The same over some rows of the gallery."""
    errors = reconstruction_errors(trained, _drawn(gallery, runs, seed))
    return None if errors is None or not len(errors) else float(errors.mean())


def _drawn(gallery: Gallery, runs: Sequence[Run], seed: int) -> NDArray[np.float32]:
    """At most `SAMPLE_ROWS` vectors of these runs, from pieces drawn at random."""
    pieces = [(start, min(start + _PIECE_ROWS, stop)) for run in runs for start, stop in _split(run)]
    order = np.random.default_rng(seed).permutation(len(pieces))[:_PIECES]
    found, rows = [np.empty((0, gallery.dimension), np.float32)], 0
    for number in order:
        start, stop = pieces[number]
        for batch in gallery.batches(start, stop, ["embedding"], _PIECE_ROWS):
            found.append(vectors_of(batch.column("embedding")).astype(np.float32))
            rows += batch.num_rows
        if rows >= SAMPLE_ROWS:
            break
    return np.concatenate(found)


def _split(run: Run) -> Iterator[Run]:
    for start in range(*run, _PIECE_ROWS):
        yield start, run[1]


def reconstruction_errors(trained: Any, vectors: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Squared distance of each vector (n, d) from what the index knows of it without its codes: the coarse centroid that it is
    filed under, brought back to d dimensions. What a projection drops is lost with it. None for an index without lists."""
    whole = faiss.downcast_index(trained)
    ivf = faiss.try_extract_index_ivf(whole)
    if ivf is None:
        return None
    moved = _moved(whole, vectors)
    quantizer = faiss.downcast_index(ivf.quantizer)
    centroids = quantizer.reconstruct_n(0, quantizer.ntotal)
    _, nearest = quantizer.search(np.ascontiguousarray(moved), 1)
    # The projection is x → A x + b; the vector nearest to all that have one projection is by the pseudo-inverse of A.
    origin = _moved(whole, np.zeros((1, vectors.shape[1]), np.float32))
    matrix = (_moved(whole, np.eye(vectors.shape[1], dtype=np.float32)) - origin).astype(np.float64)
    back = (centroids - origin).astype(np.float64) @ np.linalg.pinv(matrix)
    result: NDArray[np.float64] = ((vectors - back[nearest[:, 0]]) ** 2).sum(axis=1)
    return result


def _moved(whole: Any, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(whole, faiss.IndexPreTransform):
        for step in range(whole.chain.size()):
            vectors = faiss.downcast_VectorTransform(whole.chain.at(step)).apply(vectors)
    return vectors
