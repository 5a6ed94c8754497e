"""Cells: unit vectors in two levels of clusters, so that a row finds its cell without a look at every one.

A row's **home** is the nearest cell of its nearest region. It **looks into** all cells that are nearly as near as its home, in
all regions that are nearly as near as its nearest: by how much is told by two margins (`clipmill.curate.margins`). A row in the
midst of its cell looks into no other, one at the edge into many. Two rows are compared where either looks into the home of the
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_ITERATIONS = 8
_BLOCK_BYTES = 64 << 20
"""Of the products of some vectors with the centroids, at a time."""


@dataclass(frozen=True)
class Cells:
    """``regions`` (r, d) and ``centroids`` (c, d) are unit vectors in float32. The cells of region j are those from
    ``starts[j]`` to ``starts[j + 1]`` − 1; ``starts`` is int64 (r + 1,)."""

    regions: NDArray[np.float32]
    centroids: NDArray[np.float32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.centroids)

    def region_of(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """The region of each cell."""
        return np.searchsorted(self.starts, cells, side="right") - 1


@dataclass(frozen=True)
class Homes:
    """Where rows (n,) belong: ``region`` and ``cell`` int64, and the cosines with their centroids, float32."""

    region: NDArray[np.int64]
    region_cosine: NDArray[np.float32]
    cell: NDArray[np.int64]
    cell_cosine: NDArray[np.float32]


@dataclass(frozen=True)
class Margins:
    """By how much less than the cosine with a row's own region, and with its home, that with another may be for the row to
    look into it."""

    region: float
    cell: float


def train_cells(sample: NDArray[np.float32], cells: int, seed: int) -> Cells:
    """About so many cells for a sample (s, d) of unit vectors, in √cells regions: k-means over all of it, then within each
    region as many centroids as its share of the sample. The same for the same sample and seed. Regions beside each other in
    number are alike, as far as one direction can say."""
    rng = np.random.default_rng(seed)
    regions = k_means(sample, max(1, round(np.sqrt(cells))), rng)
    spread = np.linalg.svd(regions - regions.mean(axis=0), full_matrices=False)[2][0]
    regions = regions[np.argsort(regions @ spread, kind="stable")]
    region, _ = nearest(sample, regions)
    order = np.argsort(region, kind="stable")
    bounds = np.searchsorted(region[order], np.arange(len(regions) + 1))
    centroids = [
        k_means(sample[order[start:stop]], max(1, round(cells * (stop - start) / len(sample))), rng)
        if stop > start
        else regions[number : number + 1]
        for number, (start, stop) in enumerate(pairwise(bounds))
    ]
    starts = np.cumsum([0, *(len(part) for part in centroids)], dtype=np.int64)
    return Cells(regions, np.concatenate(centroids), starts)


def k_means(vectors: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """At most ``count`` unit centroids (c, d) of unit vectors (n, d), by cosine. One that loses all its vectors stays where it
    was. Sums are taken in order, so the result does not depend on the number of threads."""
    centroids = vectors[np.sort(rng.choice(len(vectors), min(count, len(vectors)), replace=False))]
    for _ in range(_ITERATIONS):
        belong, _ = nearest(vectors, centroids)
        ones = np.ones(len(vectors), np.float32)
        sums = csr_array((ones, (belong, np.arange(len(vectors)))), (len(centroids), len(vectors))) @ vectors
        lengths = np.linalg.norm(sums, axis=1)
        kept = lengths > 0
        centroids[kept] = sums[kept] / lengths[kept, None]
    return centroids


def nearest(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The centroid (c, d) of greatest cosine for each vector (n, d), and that cosine."""
    found, cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    step = max(1, _BLOCK_BYTES // (4 * len(centroids)))
    for start in range(0, len(vectors), step):
        products = vectors[start : start + step] @ centroids.T
        best = products.argmax(axis=1)
        found[start : start + step] = best
        cosine[start : start + step] = np.take_along_axis(products, best[:, None], axis=1)[:, 0]
    return found, cosine


def homes_of(cells: Cells, vectors: NDArray[np.float32]) -> Homes:
    """The homes of unit vectors (n, d): √cells products a row, and as many again within its region."""
    region, region_cosine = nearest(vectors, cells.regions)
    cell, cell_cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for number in np.unique(region):
        rows = np.flatnonzero(region == number)
        start, stop = cells.starts[number], cells.starts[number + 1]
        best, cell_cosine[rows] = nearest(vectors[rows], cells.centroids[start:stop])
        cell[rows] = best + start
    return Homes(region, region_cosine, cell, cell_cosine)


def looks_of(
    cells: Cells, vectors: NDArray[np.float32], homes: Homes, margins: Margins
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cells that each vector (n, d) looks into beside its home, as pairs of row and cell, in order of the cell's region."""
    rows_found, cells_found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    least_region = (homes.region_cosine - np.float32(margins.region))[:, None]
    near = vectors @ cells.regions.T >= least_region
    for number in np.flatnonzero(near.any(axis=0)):
        rows = np.flatnonzero(near[:, number])
        start, stop = cells.starts[number], cells.starts[number + 1]
        least = (homes.cell_cosine[rows] - np.float32(margins.cell))[:, None]
        at, cell = np.nonzero(vectors[rows] @ cells.centroids[start:stop].T >= least)
        other = cell + start != homes.cell[rows[at]]
        rows_found.append(rows[at[other]])
        cells_found.append(cell[other] + start)
    return np.concatenate(rows_found), np.concatenate(cells_found)
