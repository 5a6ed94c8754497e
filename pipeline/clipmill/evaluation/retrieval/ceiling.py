"""The recall that identical captions and identical images leave within reach of any model.

A model sees pixels and words only. Where two images are the same, or two captions are, it cannot know which of them is
meant, and R@K counts the other one as a miss. The ceiling is the recall of a model that knows everything else: no model can
expect more. Images are the same where their vectors are; captions where both text and vector are. A caption whose text is not
known is like no other, so the measured expectation of R@K is never above the ceiling.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.ranks import probability_of_none
from clipmill.evaluation.vectors import blocks, let_go

_BLOCK = 65_536
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""A product with an odd number loses nothing modulo 2⁶⁴, and keeps a text's hash from adding up with a vector's."""


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


def hash_texts(texts: Iterable[str | None]) -> NDArray[np.uint64]:
    """A 64-bit hash of each text; equal texts, and in practice no others, have equal hashes. One that is not known, None,
    has a hash of its own."""
    digests = b"".join(
        hashlib.blake2b(
            str(number).encode() if text is None else text.encode(),
            digest_size=8,
            person=b"unknown" if text is None else b"",
        ).digest()
        for number, text in enumerate(texts)
    )
    return np.frombuffer(digests, np.uint64)


def hash_captions(texts: Iterable[str | None], values: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A 64-bit hash of each caption, equal where both its text and its vector are."""
    return hash_texts(texts) * _ODD + hash_vectors(values)


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
    captions: NDArray[np.uint64],
    caption_rows: NDArray[np.int64],
    image_looks: NDArray[np.uint64],
    image_rows: NDArray[np.int64],
    at: tuple[int, ...],
) -> Ceiling:
    """Ceiling of t2i, of captions that have an image.

    Queries that are the same caption all get one ranking. Each place in it holds an image of some look; it answers, in
    expectation, the queries of that caption and look divided by the number of images of that look. The best ranking takes
    places in falling order of that value.
    """
    look, look_size, image_of, has_image = _join(caption_rows, image_looks, image_rows)
    # Distinct pairs of a caption and a look, how often each is asked for, and the places that the look takes.
    text = np.unique(captions[has_image], return_inverse=True)[1]
    pairs, asked = np.unique(np.column_stack([text, look[image_of[has_image]]]), axis=0, return_counts=True)
    size = look_size[pairs[:, 1]]
    value = asked / size
    # For each caption the looks in falling order of value, and the places before each.
    order = np.lexsort((-value, pairs[:, 0]))
    size, value, group = size[order], value[order], pairs[order, 0]
    before = np.cumsum(size) - size
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    before = before - np.repeat(before[starts], np.diff(np.r_[starts, len(group)]))
    hits = {k: float(np.sum(value * np.clip(k - before, 0, size))) for k in at}
    return Ceiling(int(has_image.sum()), hits, _repeated(captions), _repeated(image_looks))


def open_ceiling(
    captions: NDArray[np.uint64], caption_rows: NDArray[np.int64], rows: NDArray[np.int64], at: tuple[int, ...]
) -> Ceiling:
    """No bound, of captions whose video has several pictures, any of which answers them: which pictures look the same says
    little of what a model could find."""
    queries = int(np.isin(caption_rows, rows).sum())
    return Ceiling(queries, {k: float(queries) for k in at}, _repeated(captions), 0)


def image_to_text_ceiling(
    captions: NDArray[np.uint64],
    caption_rows: NDArray[np.int64],
    image_looks: NDArray[np.uint64],
    image_rows: NDArray[np.int64],
    at: tuple[int, ...],
) -> Ceiling:
    """Ceiling of i2t, of images that have a caption: the lower of two bounds for all images that look the same.

    Captions that are the same stand together in random order, so the best start is the image's caption with the most of
    its own among its copies; and all images of a look get one ranking, of which K places can answer at most K.
    """
    look, _, image_of, has_image = _join(caption_rows, image_looks, image_rows)
    # Distinct pairs of an image and a caption of its own: how many of the caption's copies are its own.
    text, copies = np.unique(captions, return_inverse=True, return_counts=True)[1:]
    pairs, own = np.unique(np.column_stack([image_of[has_image], text[has_image]]), axis=0, return_counts=True)
    images, pair_image = np.unique(pairs[:, 0], return_inverse=True)
    # The best caption to begin with for each image, and no more than K answers for all that look the same.
    hits = {}
    for k in at:
        found = 1 - probability_of_none(copies[pairs[:, 1]], own, np.full(len(own), k), k)
        best = np.zeros(len(images))
        np.maximum.at(best, pair_image, found)
        hits[k] = float(np.minimum(np.bincount(look[images], best), k).sum())
    return Ceiling(len(images), hits, _repeated(captions), _repeated(image_looks))


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
