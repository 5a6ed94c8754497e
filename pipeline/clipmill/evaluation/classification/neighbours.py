"""k-nearest-neighbour classification: no training at all, only the labels of the nearest images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.vectors import blocks
from clipmill.index.search.exact import exact_top_k

NEIGHBOURS = (20, 1)
TEMPERATURE = 0.07
_BLOCK = 4096


def vote(
    train: NDArray[np.float16],
    train_classes: NDArray[np.int64],
    test: NDArray[np.float16],
    classes: int,
    neighbours: Sequence[int] = NEIGHBOURS,
) -> dict[int, NDArray[np.int64]]:
    """The class (test images,) that the k nearest of ``train`` (n, d) give each of ``test`` (m, d), for each k.

    Exact search by inner product; a neighbour's vote weighs exp(score / τ) with τ = .07 (Wu et al. 2018, section 3.4).
    Where there are fewer than k training images, all vote.
    """
    answers = {k: np.empty(len(test), np.int64) for k in neighbours}
    for part in blocks(len(test), max(1, min(_BLOCK, (1 << 24) // classes))):
        scores, positions = exact_top_k(
            test[part].astype(np.float32),
            ((block.start, train[block]) for block in blocks(len(train), 65_536)),
            max(neighbours),
        )
        weights = np.exp((scores.astype(np.float64) - scores[:, :1]) / TEMPERATURE)
        for k in neighbours:
            votes = np.zeros((len(scores), classes))
            voters = np.broadcast_to(np.arange(len(scores))[:, None], scores[:, :k].shape)
            np.add.at(votes, (voters, train_classes[positions[:, :k]]), weights[:, :k])
            answers[k][part] = votes.argmax(axis=1)
    return answers
