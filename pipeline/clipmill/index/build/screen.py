"""How many of the exact results each search setting finds, from one search of codes for every nprobe and none for every depth.

A result is found where its code is among the best ``depth`` of its shard, since these are then scored with stored vectors, and
where these are exact or leave it among the best. So the rank of every exact result by code says at which depths it is found.
"""

from dataclasses import dataclass, field
from functools import cached_property

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.index.search.recall import recall_interval
from clipmill.index.search.search import ShardedIndex

_NEVER = np.iinfo(np.int32).max
_QUERIES = 256
"""Searched at a time: as many results of each as re-ranking may look at take memory."""


@dataclass(frozen=True)
class Screen:
    """Queries (q, d) with the positions of their exact results (q, k or more), −1 where there are fewer, and the greatest
    ``depth`` that is asked for. ``threads`` are FAISS's."""

    index: ShardedIndex
    queries: NDArray[np.float32]
    truth: NDArray[np.int64]
    depth: int
    threads: int
    _ranks: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    def recall(self, nprobe: int, depth: int, k: int) -> Interval:
        """The share of the exact ``k`` results that a search with these settings finds."""
        if nprobe not in self._ranks:
            self._ranks[nprobe] = self._ranked(nprobe)
        wanted = int((self.truth[:, :k] >= 0).sum(axis=1).max())
        found = self._ranks[nprobe][:, :k] < depth
        if self._stored_scores is not None:
            least = np.sort(self._stored_scores, axis=1)[:, -min(k, self._stored_scores.shape[1]), None]
            found &= self._stored_scores[:, :k] >= least
        return recall_interval(found.sum(axis=1), wanted)

    @cached_property
    def _stored_scores(self) -> NDArray[np.float32] | None:
        """Of the exact results (q, k or more), where results are scored with vectors that are not."""
        stored = self.index.vectors
        return stored.scores(self.queries, self.truth) if stored.are_there and not stored.are_exact else None

    def _ranked(self, nprobe: int) -> NDArray[np.int32]:
        """The rank (q, k) by code of each exact result in its shard."""
        faiss.omp_set_num_threads(self.threads)
        rank_of = np.full(self.index.n + 1, _NEVER, np.int32)  # the last for what is missing
        ranks = np.empty(self.truth.shape, np.int32)
        for start in range(0, len(self.queries), _QUERIES):
            found = self.index.by_code(self.queries[start : start + _QUERIES], nprobe, self.depth)
            for number in range(start, min(start + _QUERIES, len(self.queries))):
                for positions in found:
                    rank_of[positions[number - start]] = np.arange(positions.shape[1])
                rank_of[-1] = _NEVER
                ranks[number] = rank_of[self.truth[number]]
                for positions in found:
                    rank_of[positions[number - start]] = _NEVER
        return ranks
