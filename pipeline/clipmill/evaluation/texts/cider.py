"""CIDEr-D: how much a text says what references say, words that are in few references counting most (Vedantam et al. 2015)."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from clipmill.evaluation.texts.overlap import ORDERS, Words, ngrams

_SIGMA = 6.0
_SCALE = 10.0


@dataclass(frozen=True)
class _Weighted:
    """The runs of words of a text by order, each by its count times its rarity, and how long these vectors are."""

    vectors: tuple[dict[Words, float], ...]
    norms: tuple[float, ...]
    words: int


@dataclass(frozen=True)
class Rarity:
    """In how many pictures' references each run of words occurs, of ``pictures`` in all."""

    pictures: int
    occurs: Counter[Words]

    @staticmethod
    def of(references: Iterable[Sequence[Words]]) -> "Rarity":
        """From the references of each picture."""
        occurs: Counter[Words] = Counter()
        pictures = 0
        for of_picture in references:
            pictures += 1
            occurs.update({run for one in of_picture for n in range(1, ORDERS + 1) for run in ngrams(one, n)})
        return Rarity(pictures, occurs)

    @cached_property
    def _most(self) -> float:
        return math.log(max(1, self.pictures))

    def score(self, words: Words, references: Sequence[Words]) -> float:
        """CIDEr-D of one text, from 0 to 10: the mean over orders and references of the cosine of both vectors, the text's
        clipped to the reference's, and less the more their lengths differ."""
        text = self._weighted(words)
        found = [self._alike(text, self._weighted(one)) for one in references]
        return _SCALE * sum(found) / len(found)

    def _weighted(self, words: Words) -> _Weighted:
        vectors = tuple(
            {run: count * (self._most - math.log(max(1, self.occurs[run]))) for run, count in ngrams(words, n).items()}
            for n in range(1, ORDERS + 1)
        )
        norms = tuple(math.sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors)
        return _Weighted(vectors, norms, len(words))

    def _alike(self, text: _Weighted, reference: _Weighted) -> float:
        # COCO's evaluation counts pairs of words for the length, of which a text of one word has as many as an empty one
        differ = max(0, text.words - 1) - max(0, reference.words - 1)
        total = 0.0
        for mine, theirs, one, other in zip(text.vectors, reference.vectors, text.norms, reference.norms, strict=True):
            if one and other:
                product = sum(min(weight, theirs[run]) * theirs[run] for run, weight in mine.items() if run in theirs)
                total += product / (one * other)
        return total / ORDERS * math.exp(-(differ**2) / (2 * _SIGMA**2))
