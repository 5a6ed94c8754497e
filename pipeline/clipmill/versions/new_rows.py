"""What came into a gallery since an older index was built over it, and whether the index finds it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.manifests import IndexManifest, Interval
from clipmill.datasets.manifests import Embeddings, read_manifest, vectors_of
from clipmill.datasets.shards import Shard, read_shards
from clipmill.index.build.gallery import Gallery
from clipmill.index.search.open import open_index
from clipmill.index.search.recall import hits, recall_interval
from clipmill.index.search.truth import exact_results, exact_scores
from clipmill.storage import Location
from clipmill.versions.drift import Run

QUERIES = 1000
_ROWS = 65_536


def new_rows(gallery: Gallery, base: Location) -> tuple[list[Run], list[Run]]:
    """The runs of positions whose rows the index at ``base`` does not have, and those whose rows it has."""
    files = [
        file for file in read_shards(base, read_manifest(base, IndexManifest).shards_sha256) if file.part == "rows"
    ]
    known = [np.zeros(0, bool)]
    for batch in gallery.batches(0, gallery.n, ["row"], _ROWS):
        rows = batch.column("row").to_numpy()
        known.append(np.any([_among(rows, base, file) for file in _overlapping(files, rows)] or [rows < 0], axis=0))
    old = np.concatenate(known)
    return _runs(~old), _runs(old)


def rows_in(gallery: Gallery, runs: Sequence[Run]) -> NDArray[np.int64]:
    """The rows at these positions, in order."""
    found = [np.empty(0, np.int64)]
    for start, stop in runs:
        found += [batch.column("row").to_numpy() for batch in gallery.batches(start, stop, ["row"], _ROWS)]
    return np.concatenate(found)


def recall_of_new(dataset: Embeddings, place: Location, base: Location, cache: Path, seed: int) -> Interval | None:
    """The recall of the index at ``place`` for queries of the other part that belong to rows which the index at ``base`` does
    not have, at its operating point; None where there are none. At most `QUERIES` are drawn."""
    manifest = read_manifest(place, IndexManifest)
    gallery = Gallery(dataset, manifest.gallery)
    rows = np.unique(rows_in(gallery, new_rows(gallery, base)[0]))
    queries = _queries(gallery.opposite, rows, seed)
    if not len(queries):
        return None
    index = open_index(place.uri, cache)
    k = min(manifest.k, index.n)
    exact = exact_results(index, gallery, queries, k)
    _, positions = index.search(queries, k)
    return recall_interval(hits(exact_scores(index, gallery, exact)(queries, positions), exact[0][:, :k]), k)


def _queries(side: Gallery, rows: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    found = [np.empty((0, side.dimension), np.float16)]
    for batch in side.batches(0, side.n, ["row", "embedding"], _ROWS) if side.n else ():
        chosen = np.isin(batch.column("row").to_numpy(), rows)
        found.append(vectors_of(batch.column("embedding"))[chosen])
    vectors = np.concatenate(found)
    drawn = np.random.default_rng(seed).permutation(len(vectors))[:QUERIES]
    return vectors[np.sort(drawn)].astype(np.float32)


def _overlapping(files: Sequence[Shard], rows: NDArray[np.int64]) -> list[Shard]:
    return [
        file
        for file in files
        if file.first_row is not None
        and file.last_row is not None
        and file.first_row <= rows[-1]
        and file.last_row >= rows[0]
    ]


def _among(rows: NDArray[np.int64], base: Location, file: Shard) -> NDArray[np.bool_]:
    held = np.load(storage.local_copy(file.at(base), DEFAULT_CACHE.expanduser(), file.sha256), mmap_mode="r")
    at = np.minimum(np.searchsorted(held, rows), len(held) - 1)
    result: NDArray[np.bool_] = held[at] == rows
    return result


def _runs(chosen: NDArray[np.bool_]) -> list[Run]:
    edges = np.flatnonzero(np.diff(np.r_[False, chosen, False])).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
