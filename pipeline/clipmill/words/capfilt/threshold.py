"""The least score of a text that is kept, chosen from the data: texts of other pictures show what wrong texts score.

Scores of texts with their own picture are those of right and of wrong texts mixed; scores with the pictures of others are
those of wrong ones alone. With S and U their distributions and π the share of wrong texts, of those kept from t on
π·P(U ≥ t) / P(S ≥ t) is wrong: the false discovery rate. π is estimated, from above, where hardly a right text scores: as
P(S < m) / P(U < m) with m the median of U (Storey 2002). The least t at which the rate is low enough is the threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.text_manifests import ChosenThreshold

MOST_WRONG = 0.02
"""Of what is kept: well below one in twenty, since it is an estimate from a sample."""
LEAST_TEXTS = 50
"""Fewer say nothing of a rate of some hundredths."""
_DISTINCT = 0.5
"""A threshold that keeps less than this share of what is thought right is none: the model cannot tell the texts apart."""


def choose_threshold(
    own: NDArray[np.float32], others: NDArray[np.float32], pictures: int, most_wrong: float = MOST_WRONG
) -> ChosenThreshold:
    """From scores of texts with ``own`` pictures (n,) and with those of ``others`` (m,), finite, n and m at least 1.

    Raises UserError where there are too few, or where the model does not tell them apart.
    """
    if min(len(own), len(others)) < LEAST_TEXTS:
        raise UserError(
            f"there are {len(own)} texts to choose a threshold by, and {LEAST_TEXTS} are needed: give --threshold"
        )
    own, others = np.sort(own), np.sort(others)
    median = others[len(others) // 2]
    wrong = min(1.0, float(np.mean(own < median)) / max(float(np.mean(others < median)), 1 / len(others)))
    kept = 1 - np.arange(len(own)) / len(own)
    wrong_kept = wrong * (1 - np.searchsorted(others, own) / len(others))
    rate = wrong_kept / kept
    low = np.flatnonzero(rate <= most_wrong)
    right = (kept - wrong_kept) / max(1 - wrong, 1 / len(own))
    if not len(low) or right[low[0]] < _DISTINCT:
        raise UserError(
            "the model scores texts of other pictures much like a picture's own, so no threshold parts right from wrong ones: "
            "take another --model, or give --threshold"
        )
    at = int(low[0])
    return ChosenThreshold(
        value=float(own[at]),
        pictures=pictures,
        texts=len(own),
        wrong_before=round(wrong, 4),
        wrong_kept=round(float(rate[at]), 4),
        right_kept=round(min(1.0, float(right[at])), 4),
    )
