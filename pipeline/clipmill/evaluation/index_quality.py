"""The fidelity of a published index, on queries that it was not tuned on."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import GALLERY_VECTORS, IndexManifest
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings, read_manifest
from clipmill.evaluation.directions import Direction, direction_of
from clipmill.evaluation.fidelity import Fidelity, measure_cold, measure_fidelity
from clipmill.evaluation.progress import Progress, silent
from clipmill.evaluation.results import SlicesPart, ThroughPart
from clipmill.evaluation.retrieval.through_index import Asked, measure_through_index
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.slices import measure_slices
from clipmill.evaluation.studies.slicing import read_slicing
from clipmill.index.build.build import TUNED_ON
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.queries import Queries, draw_queries
from clipmill.index.build.searches import Searches
from clipmill.index.search.exact import without_own
from clipmill.index.search.open import open_index
from clipmill.index.search.products import device_for
from clipmill.index.search.search import Index
from clipmill.index.search.truth import exact_results, exact_scores
from clipmill.stage.checkpoints import Checkpoint, no_checkpoints

K = 10


@dataclass(frozen=True)
class _Exact:
    """What the index is asked, the ``rows`` (q,) of it, and the results of exact search for it, ``k`` or more, best first."""

    queries: NDArray[np.float32]
    rows: NDArray[np.int64]
    kind: str
    scores: NDArray[np.float32]
    positions: NDArray[np.int64]
    own: NDArray[np.int64] | None
    k: int


def manifest_of_index(embeddings: Embeddings, uri: str) -> IndexManifest:
    """The manifest of the index at ``uri``. Raises UserError when it was built over other embeddings."""
    manifest = read_manifest(storage.resolve(uri), IndexManifest)
    if manifest.embeddings_manifest_sha256 != embeddings.manifest_sha256:
        raise UserError(
            f"--index {uri} was built over {manifest.embeddings}, whose manifest is not that of "
            f"{embeddings.location}; give the index of these embeddings, or build one with `clipmill index`"
        )
    return manifest


def measure_index(
    uri: str,
    embeddings: Embeddings,
    settings: EvaluateSettings,
    cache: Path,
    asked: dict[Direction, Asked],
    progress: Progress = silent,
    checkpoint: Checkpoint = no_checkpoints,
) -> tuple[Fidelity, ThroughPart | None, SlicesPart | None]:
    """The fidelity of the index at ``uri`` at its tuned operating point, k = 10, the model's recall through it, and the recall
    of the index by slices, where these are asked for.

    Queries of the fidelity are drawn as the index drew its own, and those that it confirmed its tuning with are taken.
    Recall is of the direction whose gallery the index holds, on those ``asked``; None where that direction was not
    ranked, or all its queries were tuned on. The index is opened only where one of the two was not kept.
    """
    opened = functools.cache(lambda: open_index(uri, cache, resident=bool(settings.resident)))
    through = checkpoint(
        "through-index", list[ThroughPart], lambda: _recall_through(opened(), embeddings, settings, asked)
    )
    exact = functools.cache(
        lambda: checkpoint("exact", _Exact, lambda: _search_exactly(opened(), embeddings, settings))
    )
    fidelity = checkpoint("fidelity", Fidelity, lambda: _measure(opened(), embeddings, exact(), progress))
    slices = checkpoint("index-slices", list[SlicesPart], lambda: _slices(fidelity, exact().rows, embeddings, settings))
    return fidelity, through[0] if through else None, slices[0] if slices else None


def _recall_through(
    index: Index, embeddings: Embeddings, settings: EvaluateSettings, asked: dict[Direction, Asked]
) -> list[ThroughPart]:
    """One, or none."""
    manifest = index.manifest
    gallery = Gallery(embeddings, manifest.gallery)
    direction = direction_of(gallery.opposite.part, gallery.part)
    ranked = asked.get(direction)
    if ranked is None:
        return []
    tuned_on = _drawn(manifest, gallery).tuning
    if manifest.exact or manifest.configuration.get(TUNED_ON):
        tuned_on = tuned_on[:0]

    def search_rows(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return index.rows_at(index.search(queries, k)[1])

    found = measure_through_index(direction, ranked, tuned_on, search_rows, settings.bootstrap_samples, settings.seed)
    return [found] if found else []


def _measure(index: Index, embeddings: Embeddings, exact: _Exact, progress: Progress) -> Fidelity:
    gallery = Gallery(embeddings, index.manifest.gallery)
    k = exact.k
    nprobe, rerank = index.manifest.promise_of(exact.kind, k).at(k)
    search = functools.partial(index.search, nprobe=nprobe, rerank=rerank)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with progress(len(exact.queries), "index") as step:
            found = measure_fidelity(
                search,
                exact.scores[:, :k],
                exact_scores(index, gallery, (exact.scores, exact.positions)),
                exact.queries,
                index.n,
                exact.kind,
                index.manifest.gallery,
                step,
                own=exact.own,
            )
        if not index.manifest.operating_point.rerank:
            return found  # nothing is read from disk
        return replace(found, cold=measure_cold(search, exact.queries, found.k, index.sharded.vectors.evict))
    finally:
        faiss.omp_set_num_threads(threads)


def _search_exactly(index: Index, embeddings: Embeddings, settings: EvaluateSettings) -> _Exact:
    manifest = index.manifest
    drawn, seen = _asked(manifest, Gallery(embeddings, manifest.gallery), settings)
    unseen = slice(len(drawn.tuning) if seen and len(drawn.confirmation) else 0, None)
    queries = drawn.all[unseen][: settings.fidelity_queries]
    own = None if drawn.own is None else drawn.own[unseen][: settings.fidelity_queries]
    k = min(K, manifest.n - (own is not None))
    gallery, device = Gallery(embeddings, manifest.gallery), device_for(settings.products)
    found = exact_results(index, gallery, queries, drawn.results_asked(k), device)
    asked = np.empty(0, np.int64)
    if drawn.positions is not None:
        rows = _rows_of(embeddings, manifest.gallery if drawn.kind == GALLERY_VECTORS else drawn.kind)
        asked = rows[drawn.positions[unseen][: len(queries)]]
    return _Exact(queries, asked, drawn.kind, *without_own(found, own, found[0].shape[1] - (own is not None)), own, k)


def _asked(manifest: IndexManifest, gallery: Gallery, settings: EvaluateSettings) -> tuple[Queries, bool]:
    """What the index is measured with, and whether it was tuned on the first half of it."""
    tuned_on = manifest.configuration.get(TUNED_ON)
    if settings.queries is None:
        return _drawn(manifest, gallery), tuned_on is None
    searches = Searches.of(settings.queries, "--queries")
    count = manifest.configuration["tuning_queries"] if searches.sha256 == tuned_on else settings.fidelity_queries
    return searches.drawn(count, manifest.configuration["seed"], gallery.dimension), searches.sha256 == tuned_on


def _drawn(manifest: IndexManifest, gallery: Gallery) -> Queries:
    """As the index drew its own from the dataset."""
    return draw_queries(gallery, manifest.configuration["tuning_queries"], manifest.configuration["seed"])


def _rows_of(embeddings: Embeddings, part: str) -> NDArray[np.int64]:
    found = [np.empty(0, np.int64), *(batch.column(0).to_numpy() for batch in embeddings.batches(part, ["row"]))]
    return np.concatenate(found)


def _slices(
    fidelity: Fidelity, rows: NDArray[np.int64], embeddings: Embeddings, settings: EvaluateSettings
) -> list[SlicesPart]:
    """The recall by slices of the queries' images, where there are such; one, or none."""
    images = _rows_of(embeddings, "images")
    known = np.isin(rows, images)
    if not settings.slice_by or not known.any():
        return []
    recall = ByQuery(fidelity.recall, rows[known], fidelity.each[known] / fidelity.k)
    slicings = [read_slicing(embeddings, column) for column in settings.slice_by]
    return [measure_slices(images, [recall], slicings, seed=settings.seed)]
