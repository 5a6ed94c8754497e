"""Queries that people asked, kept in a file: an index is tuned on them, or measured with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import SEARCHES
from clipmill.index.build.queries import Queries
from clipmill.index.search.query_file import QueryFile, query_vectors

_LEAST = 2
"""One to tune on, and another to confirm with."""


@dataclass(frozen=True)
class Searches:
    """A file of query vectors as it was when it was looked at."""

    file: QueryFile
    sha256: str

    @staticmethod
    def of(uri: str, option: str) -> "Searches":
        """The file that an option names. Raises UserError where there is none."""
        place = storage.resolve(uri)
        if not storage.is_file(place):
            raise UserError(f"{option} {place}: there is no such file")
        return Searches(QueryFile(place, option), storage.sha256(place))

    def drawn(self, count: int, seed: int, dimension: int) -> Queries:
        """``count`` of its vectors to tune on and ``count`` to confirm with, none twice; halves of what there is if fewer.

        Raises UserError for a file without vectors of this dimension or with fewer than two that differ, RunFailed where it
        has changed since it was looked at.
        """
        if storage.sha256(self.file.place) != self.sha256:
            raise RunFailed(f"{self.file} has changed meanwhile; run the same command again")
        vectors = np.unique(np.concatenate(list(query_vectors(self.file, dimension, self._no_texts))), axis=0)
        if len(vectors) < _LEAST:
            raise UserError(
                f"{self.file} holds {len(vectors)} query that is not there twice; at least {_LEAST} are needed"
            )
        chosen = vectors[np.random.default_rng(seed).permutation(len(vectors))[: 2 * count]]
        half = (len(chosen) + 1) // 2
        return Queries(SEARCHES, chosen[:half], chosen[half:])

    def _no_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise UserError(
            f"{self.file} holds texts without vectors; what `clipmill serve --log-queries` keeps has both, in a column "
            "`embedding` of floats"
        )
