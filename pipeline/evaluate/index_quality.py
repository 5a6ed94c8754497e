"""The fidelity of a published index, on queries that it was not tuned on."""

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.config import EvaluateSettings
from pipeline.datasets import Embeddings
from pipeline.errors import UserError
from pipeline.evaluate.fidelity import Fidelity, measure_fidelity
from pipeline.evaluate.quality import Progress, silent
from pipeline.evaluate.vectors import blocks
from pipeline.index.exact import exact_top_k
from pipeline.index.gallery import Gallery
from pipeline.index.open import open_index
from pipeline.index.queries import draw_queries
from pipeline.index.rerank import StoredVectors
from pipeline.index.search import Index

K = 10
_BLOCK = 65_536


def open_index_of(embeddings: Embeddings, uri: str, cache: Path) -> Index:
    """The index at ``uri``. Raises UserError when it was built over other embeddings."""
    index = open_index(uri, cache)
    if index.manifest.embeddings_manifest_sha256 != embeddings.manifest_sha256:
        raise UserError(
            f"--index {uri} was built over {index.manifest.embeddings}, whose manifest is not that of "
            f"{embeddings.location}; give the index of these embeddings, or build one with `clipmill index`"
        )
    return index


def measure_index(
    index: Index, embeddings: Embeddings, settings: EvaluateSettings, progress: Progress = silent
) -> Fidelity:
    """Measures an index at its tuned operating point, k = 10.

    Queries are drawn as the index drew its own, and those that it confirmed its tuning with are taken.
    """
    manifest = index.manifest
    drawn = draw_queries(
        Gallery(embeddings, manifest.gallery), manifest.configuration["tuning_queries"], manifest.configuration["seed"]
    )
    queries = (drawn.confirmation if len(drawn.confirmation) else drawn.tuning)[: settings.fidelity_queries]
    stored = index.sharded.vectors
    truth, _ = exact_top_k(queries, _stream(stored), min(K, manifest.n))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with progress(len(queries), "index") as step:
            return measure_fidelity(index.search, truth, stored.scores, queries, manifest.n, drawn.kind, step)
    finally:
        faiss.omp_set_num_threads(threads)


def _stream(stored: StoredVectors) -> Iterator[tuple[int, NDArray[np.float16]]]:
    for start, shard in zip(stored.starts[:-1], stored.shards, strict=True):
        for part in blocks(len(shard), _BLOCK):
            yield int(start) + part.start, shard[part]
