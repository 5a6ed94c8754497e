"""Repeated ids in bounded memory: exact for a few million, beyond that from a fair share of all ids.

Ids are compared by 64 bits of hash. When there are too many hashes, only those below half of the range are kept, and so
on: all images of one id stay in or go together, so what is counted among those kept holds for the whole, scaled.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MOST_HASHES = 1 << 22
_SEED = 0x9E3779B97F4A7C15


class RepeatedIds:
    """Counts the images whose id another has too."""

    def __init__(self, most: int = _MOST_HASHES) -> None:
        self._most = most
        self._hashes = np.empty(0, np.uint64)
        self._times = np.empty(0, np.int64)
        self._waiting: list[NDArray[np.uint64]] = []
        self._halvings = 0

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Hashes (n,) of the ids of some images, from `hashes_of`."""
        self._waiting.append(self._kept(hashes))
        if sum(map(len, self._waiting)) >= self._most // 4:
            self._settle()

    @property
    def exact(self) -> bool:
        """Whether every id was looked at."""
        self._settle()
        return self._halvings == 0

    @property
    def repeated(self) -> int:
        """Images less distinct ids; scaled up from the share looked at where `exact` is false."""
        self._settle()
        return int((self._times - 1).sum()) << self._halvings

    def _kept(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes[hashes >> np.uint64(64 - self._halvings) == 0] if self._halvings else hashes

    def _settle(self) -> None:
        if not self._waiting:
            return
        new, times = np.unique(np.concatenate(self._waiting), return_counts=True)
        self._waiting = []
        merged, inverse = np.unique(np.concatenate([self._hashes, new]), return_inverse=True)
        counts = np.concatenate([self._times, times.astype(np.int64)])
        self._hashes = merged
        self._times = np.bincount(inverse.reshape(-1), weights=counts, minlength=len(merged)).astype(np.int64)
        while len(self._hashes) > self._most:
            self._halvings += 1
            low = self._hashes >> np.uint64(64 - self._halvings) == 0
            self._hashes, self._times = self._hashes[low], self._times[low]


def hashes_of(ids: pa.Array) -> NDArray[np.uint64]:
    """A 64-bit hash (n,) of each string, the same in every process: a sum of its bytes, each weighed by its place."""
    if not len(ids):
        return np.empty(0, np.uint64)
    offsets = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    data = ids.buffers()[2]
    letters = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None else np.empty(0, np.uint8)
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    places = np.arange(len(letters)) - np.repeat(starts, lengths)
    weights = _mixed(np.arange(int(lengths.max(initial=0)) + 1, dtype=np.uint64))
    terms = np.append(weights[places] * (letters.astype(np.uint64) + np.uint64(1)), np.uint64(0))
    sums = np.add.reduceat(terms, starts)
    sums[lengths == 0] = 0  # where a run is empty, reduceat gives the letter that follows
    return _mixed(sums + lengths.astype(np.uint64))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64: neighbouring values far apart."""
    mixed = (values + np.uint64(1)) * np.uint64(_SEED)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)
