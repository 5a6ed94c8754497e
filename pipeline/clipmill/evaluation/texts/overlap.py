"""BLEU and ROUGE-L: how much of a text stands in references too."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = tuple[str, ...]
ORDERS = 4
"""Longest runs of words that are counted."""
_BETA = 1.2
"""Recall counts more than precision in ROUGE-L of captions (Chen et al. 2015)."""


def ngrams(words: Words, n: int) -> Counter[Words]:
    """Every run of ``n`` words, and how often it occurs."""
    return Counter(words[at : at + n] for at in range(len(words) - n + 1))


def bleu_counts(words: Words, references: Sequence[Words]) -> NDArray[np.float64]:
    """What BLEU adds up, float64 (2 + 2 · `ORDERS`,): words, words of the reference whose length is nearest (the shorter of
    two), then of each order the runs of words, and those that a reference has, each as often as one has it at most."""
    nearest = min((abs(len(one) - len(words)), len(one)) for one in references)[1]
    counts = [float(len(words)), float(nearest)]
    for n in range(1, ORDERS + 1):
        most: Counter[Words] = Counter()
        for one in references:
            most |= ngrams(one, n)
        found = ngrams(words, n)
        counts += [float(found.total()), float((found & most).total())]
    return np.array(counts)


def bleu(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU-1 to BLEU-4 (…, `ORDERS`) of a corpus from sums of `bleu_counts` (…, 2 + 2 · `ORDERS`): the geometric mean of the
    precisions, shortened by exp(1 − r / c) where all texts are shorter than their references (Papineni et al. 2002)."""
    words, nearest = totals[..., 0], totals[..., 1]
    guessed, right = totals[..., 2::2], totals[..., 3::2]
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.where(right > 0, np.log(right / guessed), -np.inf)
        brevity = np.where(words > 0, np.minimum(0.0, 1 - nearest / words), -np.inf)
    means = np.cumsum(logarithms, axis=-1) / np.arange(1, ORDERS + 1)
    result: NDArray[np.float64] = np.exp(means + brevity[..., None])
    return result


def rouge_l(words: Words, references: Sequence[Words]) -> float:
    """The F-measure of the longest common subsequence (Lin 2004), with the best precision and the best recall of any
    reference, as COCO's evaluation has it."""
    common = [(_longest_common(words, one), len(one)) for one in references]
    precision = max(length for length, _ in common) / max(1, len(words))
    recall = max(length / max(1, size) for length, size in common)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for at, against in enumerate(other, start=1):
            above = lengths[at]
            lengths[at] = before + 1 if word == against else max(above, lengths[at - 1])
            before = above
    return lengths[-1]
