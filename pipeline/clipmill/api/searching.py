"""An index open for search: by words, by picture, by vector, one query or many."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from clipmill.api.results import HitLists, Hits
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import UserError
from clipmill.core.manifests import IndexManifest
from clipmill.core.startup import prepare_process

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipmill.encoders.query import QueryEncoder
    from clipmill.index.search.search import Index

Query: TypeAlias = Union[str, os.PathLike[str], "Image", ArrayLike]


def open_index(
    uri: str | os.PathLike[str],
    *,
    model: str | None = None,
    pretrained: str | None = None,
    cache: str | os.PathLike[str] = DEFAULT_CACHE,
    resident: bool = False,
    trust_remote_code: bool = False,
) -> SearchIndex:
    """Opens an index, or the one of the version that `clipmill.run` published at ``uri``, at its tuned operating point.

    ``model`` and ``pretrained`` say where the index's model is to be had now, where that is not what its manifest says;
    ``cache`` holds copies of what lies on S3; ``resident`` keeps the vectors for re-ranking in memory; ``trust_remote_code``
    lets Python code of the model's repository be executed. Raises `clipmill.core.errors.UserError` when there is no index.
    """
    prepare_process()
    from clipmill.index.search.open import open_index as open_files
    from clipmill.versions.pointer import current

    place = current(str(uri), "index")
    opened = open_files(place, Path(cache), resident=resident)
    return SearchIndex(place, opened, model, pretrained, trust_remote_code=trust_remote_code)


class SearchIndex:
    """An open index. ``manifest`` tells what it holds, and the recall and latency that were measured for it."""

    def __init__(
        self,
        uri: str,
        index: Index,
        model: str | None = None,
        pretrained: str | None = None,
        *,
        trust_remote_code: bool = False,
    ) -> None:
        self.uri = uri
        self._index = index
        self._named = (model, pretrained)
        self._trusted = trust_remote_code

    @property
    def manifest(self) -> IndexManifest:
        return self._index.manifest

    def __len__(self) -> int:
        return self._index.n

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"<index of {len(self):,} {manifest.gallery}, {manifest.factory}, {self.uri}>"

    def search(self, query: Query | Sequence[str], k: int = 10, where: str | None = None) -> Hits | HitLists:
        """The ``k`` best rows for a query, or for each of several.

        One query: words, a picture (a PIL image or a `pathlib.Path`), or a vector (d,). Several: a list of words, or an
        array (q, d). ``where`` is an SQL condition on the columns of the index: ``"year >= 2020"``. The model is loaded
        for the first query that needs it. Raises UserError for a query or condition that cannot be searched with.
        """
        vectors, names, several = self._encoded(query)
        alike = _alike(query)
        selection = None if where is None else self._index.select(where)
        scores, positions = self._index.search(vectors, min(k, len(self)), alike=alike, selection=selection)
        lists = [self._hits(name, *found) for name, *found in zip(names, scores, positions, strict=True)]
        if not several:
            return lists[0]
        return HitLists(lists, self._index.rows_at(positions), scores)

    def _hits(self, name: str, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> Hits:
        there = positions >= 0
        table = self._index.table.fetch(positions[there])
        ranks = pa.array(np.arange(1, there.sum() + 1, dtype=np.int32))
        table = table.add_column(0, "score", pa.array(scores[there])).add_column(0, "rank", ranks)
        return Hits(name, table, self.manifest)

    def _encoded(self, query: Query | Sequence[str]) -> tuple[NDArray[np.float32], list[str], bool]:
        """Vectors (q, d), what to call each query, and whether several were asked."""
        if isinstance(query, str):
            return self._encoder.encode_texts([query]), [repr(query)], False
        if isinstance(query, os.PathLike):
            return self._encoder.encode_image(Path(query)), [str(query)], False
        if hasattr(query, "save") and hasattr(query, "convert"):
            return self._encoder.encode_picture(_png(query)), ["a picture"], False
        if isinstance(query, (list, tuple)) and all(isinstance(text, str) for text in query):
            if not query:
                return np.empty((0, self._index.dimension), np.float32), [], True
            return self._encoder.encode_texts(list(query)), [repr(text) for text in query], True
        vectors = np.asarray(query, dtype=np.float32)
        if vectors.ndim not in (1, 2):
            raise UserError(
                f"a query of shape {vectors.shape} cannot be searched with: give words, a picture, a vector "
                f"({self._index.dimension},), or several as (q, {self._index.dimension})"
            )
        several = vectors.ndim == 2
        vectors = vectors if several else vectors[None]
        return vectors, [f"vector {number}" if several else "a vector" for number in range(len(vectors))], several

    @cached_property
    def _encoder(self) -> QueryEncoder:
        from clipmill.encoders.query import QueryEncoder

        return QueryEncoder(self.manifest.model, *self._named, trust_remote_code=self._trusted)


def _alike(query: Any) -> str | None:
    """The part of a dataset that is like a query: captions for words, images for a picture; None for a vector."""
    if isinstance(query, str) or (isinstance(query, (list, tuple)) and all(isinstance(text, str) for text in query)):
        return "captions"
    return "images" if isinstance(query, os.PathLike) or hasattr(query, "convert") else None


def _png(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "PNG")
    return stream.getvalue()
