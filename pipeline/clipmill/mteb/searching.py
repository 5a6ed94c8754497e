"""An index of clipmill as MTEB's ``IndexEncoderSearchProtocol``: its tasks then score compressed codes and tuned search."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, ImportVectorsSettings, IndexSettings, build
from clipmill.mteb.encoding import MtebEncoder, require_mteb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mteb.models import SearchEncoderWrapper

_FILE, _IN_FILE = 32, (1 << 32) - 1
"""A row is the number of its file in the upper bits, and its number there in the lower ones."""
_MADE = ("embeddings", "index")
Found = tuple[list[list[float]], list[list[int]]]


def index_search(model: MtebEncoder, *, results: int | None = None, **settings: Any) -> SearchEncoderWrapper:
    """A model and its index, to be given to ``mteb.evaluate`` in place of the model: MTEB's ``SearchProtocol``.

    ``settings`` are those of ``clipmill index``: ``memory="24MB"``, ``target_recall=0.95``, ``factory="IVF64,PQ32x4fsr"``,
    ``rerank_vectors="none"``. MTEB asks for a thousand results of every query, for which an index looks further than for ten;
    with ``results`` it is asked for so many at most. What was built is told by ``index_backend.manifest``. Raises UserError for
    a setting that is none, and where mteb is not installed.
    """
    require_mteb()
    from mteb.models import SearchEncoderWrapper

    made = SearchEncoderWrapper(model, index_backend=IndexBackend(settings, results))
    given = settings if results is None else {"results": results, **settings}
    told = {name: str(value) for name, value in given.items()}
    made.mteb_model_meta = model.mteb_model_meta.model_copy(update={"experiment_kwargs": {"index": "clipmill", **told}})
    return made


class IndexBackend:
    """Documents as vectors in a folder of temporary files, and the index over them.

    The index is built when the first queries are there, and tuned on half of them, as `clipmill index --tune-on` does: an index
    that is tuned on its own vectors promises too much to texts. ``manifest`` is that of the last one, with the recall that was
    measured on the other half. It is asked for at most ``results`` of a query.
    """

    def __init__(self, settings: Mapping[str, Any], results: int | None = None) -> None:
        self._settings, self._most = dict(settings), results
        # built once before, so that a mistake is told at once
        build(IndexSettings, {**self._settings, "embeddings": "vectors", "output": "index"})
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._documents: list[str] = []
        self._starts: list[int] = []
        self.manifest: IndexManifest | None = None

    def add_documents(self, embeddings: Any, idxs: Sequence[str]) -> None:
        """Adds documents, (n, d) in any floating type, of these ids."""
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="clipmill-mteb-")
            (self._folder / "vectors").mkdir()
        for made in _MADE:  # of the documents before
            shutil.rmtree(self._folder / made, ignore_errors=True)
        np.save(self._folder / "vectors" / f"{len(self._starts)}.npy", _array(embeddings))
        self._starts.append(len(self._documents))
        self._documents += idxs

    def search(
        self,
        embeddings: Any,
        top_k: int,
        similarity_fn: Callable[[Any, Any], Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> Found:
        """The ``top_k`` best documents of each query (q, d): scores, best first, and their numbers in the order of adding.

        With ``top_ranked`` each query has candidates by id: then numbers are of places among these, and every one is scored by
        ``similarity_fn``, as no index has a part in it.
        """
        if not self._documents:
            raise ValueError("search needs documents: call add_documents first")
        queries = _array(embeddings)
        if top_ranked is not None:
            return self._candidates(queries, top_k, similarity_fn, top_ranked, query_idx_to_id or {})
        from clipmill.index.search.open import open_index

        index = open_index(str(self._built(queries)))
        scores, positions = index.search(queries, min(top_k, self._most or top_k, index.n))
        there, rows = positions >= 0, index.rows_at(positions)
        numbers = np.where(there, np.asarray(self._starts)[rows >> _FILE] + (rows & _IN_FILE), -1)
        pairs = list(zip(scores, numbers, there, strict=True))
        return [one[kept].tolist() for one, _, kept in pairs], [one[kept].tolist() for _, one, kept in pairs]

    def clear(self) -> None:
        """Forgets the documents and removes all files."""
        if self._temporary is not None:
            self._temporary.cleanup()
        self._temporary, self._documents, self._starts = None, [], []

    @property
    def _folder(self) -> Path:
        assert self._temporary is not None  # there are documents
        return Path(self._temporary.name)

    def _built(self, queries: NDArray[np.float32]) -> Path:
        """Where the index is; built where it is not yet."""
        folder = self._folder
        embedded, output = (folder / made for made in _MADE)
        if output.exists():
            return output
        from clipmill.runs.stages import index_stage
        from clipmill.source.importers.vectors import import_vectors

        import_vectors(ImportVectorsSettings(images=str(folder / "vectors"), output=str(embedded)), Silent())
        values = {"embeddings": str(embedded), "output": str(output), **self._settings}
        if len(np.unique(queries, axis=0)) > 1:
            np.save(folder / "queries.npy", queries)
            values = {"tune_on": str(folder / "queries.npy"), **values}
        self.manifest = index_stage(build(IndexSettings, values), ClusterSettings(), Silent()).manifest
        return output

    def _candidates(
        self,
        queries: NDArray[np.float32],
        top_k: int,
        similarity_fn: Callable[[Any, Any], Any],
        top_ranked: Mapping[str, Sequence[str]],
        names: Mapping[int, str],
    ) -> Found:
        files = sorted((self._folder / "vectors").iterdir(), key=lambda file: int(file.stem))
        documents = np.concatenate([np.load(file) for file in files])
        numbers = {name: number for number, name in enumerate(self._documents)}
        found: Found = [], []
        for number, query in enumerate(queries):
            candidates = top_ranked.get(names[number], ())
            chosen = documents[[numbers[name] for name in candidates]]
            scores = _array(similarity_fn(query[None], chosen))[0] if len(candidates) else np.empty(0, np.float32)
            best = np.argsort(-scores, kind="stable")[:top_k]
            found[0].append(scores[best].tolist())
            found[1].append(best.tolist())
        return found


def _array(values: Any) -> NDArray[np.float32]:
    import torch

    plain = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return np.ascontiguousarray(plain, np.float32)
