"""The recall that identical captions and identical images leave within reach of any model.

A model sees pixels and words only. Where two images are the same, or two captions read the same, it cannot know which of
them is meant, and R@K counts the other one as a miss. The ceiling is the recall of a model that knows everything else: no
model can expect more.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.ranks import probability_of_none
from clipmill.evaluation.vectors import blocks, let_go

_BLOCK = 65_536


@dataclass(frozen=True)
class Ceiling:
    """Expected hits at K of the best possible model, and how many items of each side are not unique."""

    queries: int
    hits: dict[int, float]
    repeated_captions: int
    repeated_images: int

    def recall(self, k: int) -> float:
        """Highest R@K a model can expect that cannot tell identical captions, or identical images, apart."""
        return self.hits[k] / self.queries


def hash_texts(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each text; equal texts, and in practice no others, have equal hashes."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)


def hash_vectors(values: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A 64-bit hash of each vector's bits, read by blocks."""
    hashes = np.empty(len(values), np.uint64)
    salt = np.random.default_rng(0).integers(1 << 63, size=values.shape[1], dtype=np.uint64) | np.uint64(1)
    for part in blocks(len(values), max(1, _BLOCK * 64 // max(1, values.shape[1]))):
        mixed = (values[part].view(np.uint16).astype(np.uint64) + salt) * salt
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        hashes[part] = (mixed ^ (mixed >> np.uint64(32))).sum(axis=1, dtype=np.uint64)
        let_go(values)
    return hashes


def text_to_image_ceiling(
    caption_texts: NDArray[np.uint64],
    caption_rows: NDArray[np.int64],
    image_looks: NDArray[np.uint64],
    image_rows: NDArray[np.int64],
    at: tuple[int, ...],
) -> Ceiling:
    """Ceiling of t2i, of captions that have an image.

    Queries of one text all get one ranking. Each place in it holds an image of some look; it answers, in expectation,
    the queries of that text and look divided by the number of images of that look. The best ranking takes places in
    falling order of that value.
    """
    look, look_size, image_of, has_image = _join(caption_rows, image_looks, image_rows)
    # Distinct pairs of a text and a look, how often each is asked for, and the places that the look takes.
    text = np.unique(caption_texts[has_image], return_inverse=True)[1]
    pairs, asked = np.unique(np.column_stack([text, look[image_of[has_image]]]), axis=0, return_counts=True)
    size = look_size[pairs[:, 1]]
    value = asked / size
    # For each text the looks in falling order of value, and the places before each.
    order = np.lexsort((-value, pairs[:, 0]))
    size, value, group = size[order], value[order], pairs[order, 0]
    before = np.cumsum(size) - size
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    before = before - np.repeat(before[starts], np.diff(np.r_[starts, len(group)]))
    hits = {k: float(np.sum(value * np.clip(k - before, 0, size))) for k in at}
    return Ceiling(int(has_image.sum()), hits, _repeated(caption_texts), _repeated(image_looks))


def image_to_text_ceiling(
    caption_texts: NDArray[np.uint64],
    caption_rows: NDArray[np.int64],
    image_looks: NDArray[np.uint64],
    image_rows: NDArray[np.int64],
    at: tuple[int, ...],
) -> Ceiling:
    """Ceiling of i2t, of images that have a caption: the lower of two bounds for each image.

    Captions that read the same stand together in random order, so the best start is the image's text with the most of
    its own captions among its copies; and of images that look the same, K places can answer at most K.
    """
    look, look_size, image_of, has_image = _join(caption_rows, image_looks, image_rows)
    # Distinct pairs of an image and a text of its own: how many of the text's copies are its own.
    text, copies = np.unique(caption_texts, return_inverse=True, return_counts=True)[1:]
    pairs, own = np.unique(np.column_stack([image_of[has_image], text[has_image]]), axis=0, return_counts=True)
    images, pair_image = np.unique(pairs[:, 0], return_inverse=True)
    # The best text to begin with for each image, and no more than K answers for images that look the same.
    hits = {}
    for k in at:
        found = 1 - probability_of_none(copies[pairs[:, 1]], own, np.full(len(own), k), k)
        best = np.zeros(len(images))
        np.maximum.at(best, pair_image, found)
        hits[k] = float(np.sum(np.minimum(best, k / look_size[look[images]])))
    return Ceiling(len(images), hits, _repeated(caption_texts), _repeated(image_looks))


def _join(
    caption_rows: NDArray[np.int64], image_looks: NDArray[np.uint64], image_rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The look of each image, how many images have each look, each caption's image, and whether it has one."""
    look, look_size = np.unique(image_looks, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(image_rows, kind="stable")
    place = np.minimum(np.searchsorted(image_rows[order], caption_rows), len(order) - 1)
    image_of = order[place]
    return look, look_size, image_of, image_rows[image_of] == caption_rows


def _repeated(hashes: NDArray[np.uint64]) -> int:
    """Items that are not the first of their kind."""
    return len(hashes) - len(np.unique(hashes))
