"""Which texts of a batch are true of which of its images, beyond the pairs: two pictures may share a caption."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray


def key_of(text: str) -> int:
    """A number for a text: workers exchange these and not the texts."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True)
class Part:
    """What one worker tells of its part of a batch: a key for the text of each pair and of each negative, and those of all
    captions of each image."""

    texts: tuple[int, ...]
    negatives: tuple[int, ...]
    captions: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(texts: Sequence[str], negatives: Sequence[str], captions: Iterable[Sequence[str]]) -> "Part":
        """From the texts themselves."""
        return Part(_keys(texts), _keys(negatives), tuple(_keys(one) for one in captions))


def _keys(texts: Sequence[str]) -> tuple[int, ...]:
    return tuple(key_of(text) for text in texts)


@dataclass(frozen=True)
class Truth:
    """The parts of all workers, in the order of ranks."""

    parts: Sequence[Part]

    @cached_property
    def _texts(self) -> tuple[int, ...]:
        pairs = tuple(key for part in self.parts for key in part.texts)
        return pairs + tuple(key for part in self.parts for key in part.negatives)

    @cached_property
    def _captions(self) -> tuple[tuple[int, ...], ...]:
        return tuple(one for part in self.parts for one in part.captions)

    @cached_property
    def _columns_of(self) -> dict[int, list[int]]:
        return _places((key, at) for at, key in enumerate(self._texts))

    @cached_property
    def _images_of(self) -> dict[int, list[int]]:
        return _places((key, at) for at, keys in enumerate(self._captions) for key in keys)

    def rows(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """For the pairs ``rows``: bool (r, texts and negatives), which are captions of each image; and bool (r, images), of
        which images each text is a caption."""
        of_images = _table(self._captions[rows], self._columns_of, len(self._texts))
        of_texts = _table([(key,) for key in self._texts[rows]], self._images_of, len(self._captions))
        return of_images, of_texts


def _places(found: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for key, at in found:
        places.setdefault(key, []).append(at)
    return places


def _table(rows: Sequence[Sequence[int]], places: dict[int, list[int]], width: int) -> torch.Tensor:
    table: NDArray[np.bool_] = np.zeros((len(rows), width), np.bool_)
    for at, keys in enumerate(rows):
        for key in keys:
            table[at, places.get(key, [])] = True
    return torch.from_numpy(table)
