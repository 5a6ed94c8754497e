"""What a model in training knows: retrieval among held-out images, and true captions told from false ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clipmill.evaluation.classification.templates import prompts
from clipmill.train.rows import Example

_BATCH = 256

Encoder = Callable[[torch.Tensor], torch.Tensor]
"""Pixels, uint8 (n, 3, height, width), or token ids, int64 (n, length), to unit vectors, float32 (n, d)."""


@dataclass(frozen=True)
class Validation:
    """Counts of hits, from which the rates follow.

    A caption counts for t2i R@K when its image is among the K images nearest to it, an image for i2t R@K when any of its
    captions is among the K captions nearest to it. Of the pairs of a true and a false caption of one image, those count
    in which the true one scores higher: chance is one half.
    """

    images: int
    captions: int
    t2i_hits: dict[int, int]
    i2t_hits: dict[int, int]
    negative_pairs: int
    negative_pairs_told: int
    hits: list[float]
    """For each image the share of its captions that find it first; where images have labels, whether its own is the most
    probable."""
    acc1: float | None = None
    """Share of images whose label is the most probable of all labels, where they have labels."""
    matching: float | None = None
    """Share of images whose own text a matching head finds more probable than another's, where there is such a head."""

    def t2i(self, k: int) -> float:
        return self.t2i_hits[k] / self.captions

    def i2t(self, k: int) -> float:
        return self.i2t_hits[k] / self.images

    @property
    def negative_accuracy(self) -> float | None:
        return self.negative_pairs_told / self.negative_pairs if self.negative_pairs else None

    def as_dict(self) -> dict[str, float | int | None]:
        """The rates by their names, for people and records."""
        rates: dict[str, float | int | None] = {"images": self.images, "captions": self.captions}
        rates |= {f"t2i_r@{k}": round(self.t2i(k), 4) for k in self.t2i_hits}
        rates |= {f"i2t_r@{k}": round(self.i2t(k), 4) for k in self.i2t_hits}
        accuracies = {"negative_accuracy": self.negative_accuracy, "acc1": self.acc1, "matching": self.matching}
        return rates | {name: None if value is None else round(value, 4) for name, value in accuracies.items()}

    @property
    def score(self) -> float:
        """What a better model has more of: acc1 where there are labels, else t2i and i2t R@1 together."""
        return self.t2i(1) + self.i2t(1) if self.acc1 is None else self.acc1


def validate(
    examples: Iterable[Example],
    encode_images: Encoder,
    encode_texts: Callable[[Sequence[str]], torch.Tensor],
    cutoffs: Sequence[int] = (1, 5, 10),
    templates: Sequence[str] = (),
) -> Validation:
    """Encodes the examples, a batch of pixels in memory at a time, and counts hits. ``templates`` make captions of labels,
    where the examples have labels."""
    vectors: list[NDArray[np.float32]] = []
    captions: list[str] = []
    owners: list[int] = []
    negatives: list[str] = []
    negative_owners: list[int] = []
    labels: list[str] = []
    pending: list[torch.Tensor] = []
    for number, example in enumerate(examples):
        pending.append(example.pixels)
        captions.extend(example.captions)
        owners.extend([number] * len(example.captions))
        negatives.extend(example.negatives)
        negative_owners.extend([number] * len(example.negatives))
        labels.extend([] if example.label is None else [example.label])
        if len(pending) == _BATCH:
            vectors.append(encode_images(torch.stack(pending)).numpy())
            pending = []
    if pending:
        vectors.append(encode_images(torch.stack(pending)).numpy())
    images = np.concatenate(vectors)
    owner, negative_owner = np.array(owners, np.int64), np.array(negative_owners, np.int64)
    texts = _encode_all(captions, encode_texts)
    false_texts = _encode_all(negatives, encode_texts) if negatives else np.empty((0, images.shape[1]), np.float32)
    t2i, i2t = ranks(images, texts, owner)
    right = named_right(images, labels, templates, encode_texts) if labels else None
    by_caption = np.bincount(owner, t2i < 1) / np.bincount(owner)
    told, pairs = told_apart(images, texts, owner, false_texts, negative_owner)
    return Validation(
        images=len(images),
        captions=len(captions),
        t2i_hits={k: int((t2i < k).sum()) for k in cutoffs},
        i2t_hits={k: int((i2t < k).sum()) for k in cutoffs},
        negative_pairs=pairs,
        negative_pairs_told=told,
        hits=(by_caption if right is None else right.astype(np.float64)).tolist(),
        acc1=None if right is None else float(right.mean()),
    )


def named_right(
    images: NDArray[np.float32],
    labels: Sequence[str],
    templates: Sequence[str],
    encode_texts: Callable[[Sequence[str]], torch.Tensor],
) -> NDArray[np.bool_]:
    """Whether the label of each image (n, d) is the most probable among all that occur. A class is the mean of the vectors
    of its prompts."""
    names = sorted(set(labels))
    vectors = _encode_all([text for name in names for text in prompts(tuple(templates), name)], encode_texts)
    classes = vectors.reshape(len(names), len(templates), -1).mean(axis=1)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    wanted = np.array([names.index(label) for label in labels])
    right: NDArray[np.bool_] = (images @ classes.T).argmax(axis=1) == wanted
    return right


def is_better(now: Sequence[float], before: Sequence[float]) -> bool:
    """Whether one validation finds more than another on the same images by more than chance: the mean difference of their
    hits is above 0 with its 95% interval (normal, images as the unit)."""
    differences = np.asarray(now) - np.asarray(before)
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.inf
    return bool(differences.mean() - 1.96 * error > 0)


def _encode_all(texts: Sequence[str], encode: Callable[[Sequence[str]], torch.Tensor]) -> NDArray[np.float32]:
    return np.concatenate([encode(texts[start : start + _BATCH]).numpy() for start in range(0, len(texts), _BATCH)])


def ranks(
    images: NDArray[np.float32], texts: NDArray[np.float32], owner: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many wrong candidates lie nearer than the right one: of each text among images, of each image among texts.

    ``images`` (n, d) and ``texts`` (m, d) are unit vectors, ``owner`` (m,) the image of each text; every image has one.
    A tie counts as found. At most 256 rows of the score matrix are in memory.
    """
    t2i = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), _BATCH):
        part = slice(start, start + _BATCH)
        scores = texts[part] @ images.T
        own = np.take_along_axis(scores, owner[part, None], axis=1)
        t2i[part] = (scores > own).sum(axis=1)
    i2t = np.empty(len(images), np.int64)
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        scores = images[part] @ texts.T
        mine = owner[None, :] == np.arange(start, min(start + _BATCH, len(images)))[:, None]
        best = np.where(mine, scores, -np.inf).max(axis=1, keepdims=True)
        i2t[part] = ((scores > best) & ~mine).sum(axis=1)
    return t2i, i2t


def told_apart(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    owner: NDArray[np.int64],
    negatives: NDArray[np.float32],
    negative_owner: NDArray[np.int64],
) -> tuple[int, int]:
    """Pairs of a true and a false caption of one image in which the true one scores higher, and how many pairs there are.

    ``images`` (n, d), ``texts`` (m, d) and ``negatives`` (l, d) are unit vectors; the owners say whose they are.
    """
    true = np.einsum("nd,nd->n", texts, images[owner])
    false = np.einsum("nd,nd->n", negatives, images[negative_owner])
    told = pairs = 0
    for image in np.unique(negative_owner):
        higher = true[owner == image, None] > false[None, negative_owner == image]
        told, pairs = told + int(higher.sum()), pairs + higher.size
    return told, pairs
