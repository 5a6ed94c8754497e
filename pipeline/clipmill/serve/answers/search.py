"""The best rows for a question, with what is promised of them."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.manifests import GALLERY_VECTORS, SEARCHES, IndexManifest, queries_in_words
from clipmill.index.search.exact import TopK
from clipmill.index.search.search import effort_for
from clipmill.index.search.selection import Selection
from clipmill.serve.answers.answer import Kind
from clipmill.serve.answers.beside import shown
from clipmill.serve.answers.encode import Encoder
from clipmill.serve.answers.opened import Served
from clipmill.serve.answers.query import Asked, asked_of
from clipmill.serve.answers.request import SearchRequest
from clipmill.serve.limits import Limits

_FIXED = ("row", "id")
_ALIKE: dict[Kind | None, str] = {"text": "captions", "image": "images"}
"""What stands for queries of a kind where an index is measured; searches that people made stand for all kinds."""


def search(
    request: SearchRequest,
    served: Served,
    encoder: Encoder,
    limits: Limits,
    working: AbstractContextManager[object] | None = None,
) -> tuple[dict[str, Any], Asked]:
    """The answer as `SearchAnswer` has it, and the query. All but encoding, which others do, is done within ``working``.

    Raises UserError for what cannot be answered.
    """
    _refuse(request, limits)
    started = time.perf_counter()
    asked = asked_of(request.parts, served, encoder, limits)
    encoded = time.perf_counter()
    with working or nullcontext():
        answer = _answer(request, served, asked, limits, encoded - started)
    began = time.perf_counter()
    _add_beside(served, answer["results"], request.include)
    spent, spans = round((time.perf_counter() - began) * 1000, 3), answer["milliseconds"]
    answer["milliseconds"] = {**spans, "fetch": spans["fetch"] + spent, "total": spans["total"] + spent}
    return answer, asked


def _refuse(request: SearchRequest, limits: Limits) -> None:
    if request.k > limits.k:
        raise UserError(f"{request.k:,} results were asked for; ask for at most {limits.k:,}")
    if request.where is not None and len(request.where) > limits.where_letters:
        raise UserError(
            f"a condition of {len(request.where):,} letters was given; give at most {limits.where_letters:,}"
        )


def _answer(request: SearchRequest, served: Served, asked: Asked, limits: Limits, encoding: float) -> dict[str, Any]:
    started = time.perf_counter()
    selection = served.select(request.where, limits.where_seconds)
    selected = time.perf_counter()
    k = min(request.k, served.index.n)
    scores, positions = find(served, asked, k, selection)
    searched = time.perf_counter()
    results = _results(served, scores[0], positions[0], request.include)
    ended = time.perf_counter()
    spans = {"encode": encoding, "select": selected - started, "search": searched - selected}
    spans |= {"fetch": ended - searched, "total": encoding + ended - started}
    exact = is_exact(served, k, selection)
    manifest = served.index.manifest
    query = {"query": [float(value) for value in asked.vector[0]]} if "query" in request.include else {}
    return {
        "index": served.opened.name,
        "version": served.opened.version,
        "manifest_sha256": served.opened.manifest_sha256,
        "gallery": manifest.gallery,
        "n": manifest.n,
        "kind": asked.kind,
        "k": request.k,
        "where": request.where,
        "rows_selected": selection.count if request.where is not None and selection is not None else None,
        "exact": exact,
        "recall": promised(manifest, asked.kind, request.k, exact=exact),
        "milliseconds": {name: round(span * 1000, 3) for name, span in spans.items()},
        **query,
        "results": results,
    }


def find(served: Served, asked: Asked, k: int, selection: Selection | None) -> TopK:
    """Scores and positions (1, k)."""
    if asked.own is not None:
        return served.index.search_like(asked.own, k, selection=selection)
    return served.index.search(asked.vector, k, alike=_ALIKE.get(asked.kind), selection=selection)


def is_exact(served: Served, k: int, selection: Selection | None) -> bool:
    """Whether every row that may be returned is scored exactly."""
    manifest = served.index.manifest
    if manifest.exact or selection is None:
        return manifest.exact
    sharded = served.index.sharded
    stored = sharded.vectors.are_exact
    return stored and effort_for(k, 1, 1, sharded.n, selection.count, selects=sharded.selects).scored


def promised(manifest: IndexManifest, kind: Kind | None, k: int, *, exact: bool) -> dict[str, Any]:
    """What `Recall` says: of an exact answer 1, else what was measured, and whether it was for such queries."""
    if exact:
        return {"value": 1.0, "low": 1.0, "high": 1.0, "k": k, "measured_with": "exact search", "applies": True}
    alike = _ALIKE.get(kind)
    promise = manifest.promise_for(alike, k)
    measured, of_such = promise.measured_recall, GALLERY_VECTORS if alike == manifest.gallery else alike
    return {
        "value": measured.value,
        "low": measured.low,
        "high": measured.high,
        "k": promise.k,
        "measured_with": queries_in_words(promise.query_kind, manifest.gallery),
        "applies": k <= promise.k and promise.query_kind in (SEARCHES, of_such),
    }


def _results(
    served: Served, scores: NDArray[np.float32], positions: NDArray[np.int64], include: Sequence[str]
) -> list[dict[str, Any]]:
    found = positions >= 0
    positions, scores = positions[found], scores[found]
    found_rows = served.opened.rows(positions)
    results: list[dict[str, Any]] = [
        {"rank": rank, "score": float(score), "row": row["row"], "id": row["id"], **_columns(row, include)}
        for rank, (score, row) in enumerate(zip(scores, found_rows, strict=True), start=1)
    ]
    if "vector" in include:
        for result, vector in zip(results, served.index.vectors_at(positions), strict=True):
            result["vector"] = [float(value) for value in vector]
    return results


def _add_beside(served: Served, results: list[dict[str, Any]], include: Sequence[str]) -> None:
    """Pictures and captions, which may have to be read from a store."""
    rows = [result["row"] for result in results]
    if "thumbnail" in include:
        pictures = served.opened.beside.pictures(rows)
        for result in results:
            result |= shown(pictures.get(result["row"]))
    if "caption" in include and served.index.manifest.gallery != "captions":
        captions = served.opened.beside.captions(rows)
        for result in results:
            result["caption"] = next(iter(captions.get(result["row"], ())), None)


def _columns(row: dict[str, Any], include: Sequence[str]) -> dict[str, Any]:
    columns = {name: value for name, value in row.items() if name not in _FIXED}
    found: dict[str, Any] = {"columns": columns} if "columns" in include else {}
    if "caption" in include and "caption" in row:
        found["caption"] = columns["caption"]
    return found


def search_vectors(vectors: NDArray[np.float32], k: int, where: str | None, served: Served, limits: Limits) -> pa.Table:
    """Many vectors (q, d) at once: a table of query, rank, row and score, sorted by query and rank."""
    if k > limits.k or len(vectors) > limits.vectors:
        raise UserError(
            f"{k:,} results of each of {len(vectors):,} queries were asked for; ask for at most {limits.k:,} of "
            f"{limits.vectors:,}"
        )
    if where is not None and len(where) > limits.where_letters:
        raise UserError(f"a condition of {len(where):,} letters was given; give at most {limits.where_letters:,}")
    selection = served.select(where, limits.where_seconds)
    scores, positions = served.index.search(unit_rows(vectors), min(k, served.index.n), selection=selection)
    query, rank = np.nonzero(positions >= 0)
    rows = served.index.rows_at(positions)[query, rank]
    columns = [query.astype(np.int64), (rank + 1).astype(np.int32), rows, scores[query, rank]]
    return pa.table(columns, names=["query", "rank", "row", "score"])


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same vectors of unit length. Raises UserError for one of zeros, NaN or infinity."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unusable = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(unusable):
        raise UserError(f"query {unusable[0]} is a vector of zeros, NaN or infinity")
    unit: NDArray[np.float32] = vectors / lengths
    return unit
