"""The service without HTTP: several indices that are open, what encodes their queries, and questions to them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.index.search.open import open_index as open_whole
from clipmill.serve.answers.columns import columns_of
from clipmill.serve.answers.encode import BatchingEncoder, Encoder
from clipmill.serve.answers.items import facts, item
from clipmill.serve.answers.opened import Served
from clipmill.serve.answers.query import Asked, NoSuchRow
from clipmill.serve.answers.request import SearchRequest
from clipmill.serve.answers.search import search, search_vectors
from clipmill.serve.follow.followed import Followed, Watch
from clipmill.serve.follow.open import Open
from clipmill.serve.limits import Limits
from clipmill.serve.problems import Problem

MakeEncoder = Callable[[ModelIdentity | None], Encoder]


@dataclass(frozen=True)
class Named:
    """An index to be served: what it is called, and where it is."""

    name: str
    uri: str


def encoders_here(limits: Limits, model: str | None, pretrained: str | None, *, trusted: bool) -> MakeEncoder:
    """What encodes in this process. The model is loaded for the first query that needs it."""

    def make(identity: ModelIdentity | None) -> Encoder:
        from clipmill.encoders.query import QueryEncoder

        return BatchingEncoder(
            QueryEncoder(identity, model, pretrained, trust_remote_code=trusted), limits.picture_pixels
        )

    return make


@dataclass
class Service:
    """Every method answers from one version of one index, and raises UserError, RunFailed or Problem where it cannot."""

    indices: list[Followed]
    limits: Limits
    make_encoder: MakeEncoder
    _encoders: dict[str, Encoder] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock)
    _working: threading.Semaphore = field(init=False)
    _columns: dict[str, tuple[Served, list[dict[str, Any]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """As many answers are computed at a time as there are workers; encoding is waited for outside of that."""
        self._working = threading.Semaphore(self.limits.workers)

    @staticmethod
    def open(
        named: Sequence[Named],
        limits: Limits,
        make_encoder: MakeEncoder,
        cache: Path,
        on_change: Callable[[str, str], object] = lambda *told: None,
        open_index: Open = open_whole,
    ) -> "Service":
        """Opens all indices. Raises UserError or RunFailed for one that cannot be."""
        opened = [Followed(one.name, one.uri, cache, on_change, open_index) for one in named]
        return Service(opened, limits, make_encoder)

    def watch(self) -> Watch:
        """What follows the indices; not started yet."""
        return Watch(self.indices)

    def served(self, name: str | None, gallery: str | None = None) -> Served:
        """The index of this name, or the first that holds such a gallery. Raises Problem where there is none."""
        for one in self.indices:
            current = one.current
            if name in (None, one.name) and gallery in (None, current.index.manifest.gallery):
                return current
        names = ", ".join(one.name for one in self.indices)
        wanted = " ".join(filter(None, [name and f"called {name!r}", gallery and f"of {gallery}"]))
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no index {wanted} here; there is {names}")

    def encoder(self, served: Served) -> Encoder:
        """One for all indices of the same model."""
        identity, key = served.index.manifest.model, served.opened.model_key
        with self._making:
            if key not in self._encoders:
                self._encoders[key] = self.make_encoder(identity)
            return self._encoders[key]

    def search(self, request: SearchRequest) -> tuple[dict[str, Any], Asked]:
        served = self.served(request.index, request.gallery)
        with _absence():
            return search(request, served, self.encoder(served), self.limits, self._working)

    def search_vectors(
        self, vectors: NDArray[np.float32], k: int, where: str | None, name: str | None
    ) -> tuple[pa.Table, Served]:
        served = self.served(name)
        with self._working:
            return search_vectors(vectors, k, where, served, self.limits), served

    def item(self, identifier: str, name: str | None, *, with_vector: bool) -> dict[str, Any]:
        with _absence():
            return item(identifier, self.served(name), with_vector=with_vector)

    def facts(self) -> list[dict[str, Any]]:
        return [facts(one.current, followed=one.target.followed) for one in self.indices]

    def columns(self, name: str) -> dict[str, Any]:
        """What can be chosen from; looked at once for each version and takedown."""
        served = self.served(name)
        known = self._columns.get(name)
        if known is None or known[0] is not served:
            with self._working:
                known = (served, columns_of(served))
            self._columns[name] = known
        return {"index": name, "version": served.opened.version, "columns": known[1]}


class _absence:
    """What is not there is a problem of its own kind."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NoSuchRow):
            raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None


def named_of(places: Sequence[str]) -> list[Named]:
    """``NAME=URI`` or ``URI``, whose name is that of its folder; names must differ. Raises UserError where they do not."""
    found: list[Named] = []
    for place in places:
        name, equals, uri = place.partition("=")
        if not equals or "/" in name or not name:
            uri = place
            name = place.rstrip("/").rsplit("/", 1)[-1] or "index"
        if any(one.name == name for one in found):
            raise UserError(f"two indices are called {name!r}; give them names: NAME={uri}")
        found.append(Named(name, uri))
    return found
