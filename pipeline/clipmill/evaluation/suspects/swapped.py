"""How many captions belong to another picture than the one they stand beside.

The place of a caption's own picture among all, as a share of the gallery, is near 0 where the caption describes it. Where
it describes another one, its own is like any picture, and that share is uniform between 0 and 1. What is seen is a mixture of
both, the first a normal distribution once shares are made deviates of one (the binormal model of signal detection; Green and
Swets 1966). The model says whether there are such captions. How many is then counted beyond the first places, among which hard
captions stand more often than the model has it, as the share of true null hypotheses is (Storey 2002).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm

from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.statistics.bootstrap import share_intervals

_BINS = 60
_SURE = 12.0
"""Twice the logarithm of how much better the places are explained with such captions than without: chance reaches it once in
two thousand datasets."""
_LEAST_SHARE, _MOST_SHARE, _LEAST = 0.004, 0.4, 3
_LEAST_GALLERY = 100
_HARD = 0.05
"""A caption that is merely hard, because it is true of several pictures, has its own among so large a share of the gallery."""
_MOST_LEFT = 0.25
"""Beyond it so many hard captions, as a share of those of other pictures, can be allowed for."""
_KNOWN = 2.0
"""Least distance of both kinds, in standard deviations: of a model that knows too little, hard captions are like wrong ones."""


@dataclass(frozen=True)
class InAll:
    """What was found in a sample comes to ``low`` to ``high`` of all ``captions`` that it was drawn from."""

    captions: int
    low: int
    high: int


@dataclass(frozen=True)
class Swapped:
    """``count`` of ``captions`` describe another picture; those with a cosine below ``below`` are about as many. Where the
    captions are a sample, ``in_all`` says what that comes to."""

    count: int
    captions: int
    below: float
    in_all: InAll | None = None


def find_swapped(ranks: Ranks) -> Swapped | None:
    """None where there are too few to be told from captions that are merely hard, or the model knows too little to tell."""
    if ranks.gallery < _LEAST_GALLERY or not len(ranks):
        return None
    others = np.maximum(ranks.gallery - ranks.positives, 1)
    place = (ranks.higher + ranks.tied / 2) / others
    weights = None if ranks.weights is None else ranks.weights / ranks.weights.mean()
    share = uniform_share(place, ranks.gallery, weights)
    count = round(share * len(ranks))
    if not count:
        return None
    return Swapped(count, len(ranks), _score_of(ranks.score, count, weights), _in_all(ranks, place, share))


def _score_of(scores: NDArray[np.float64], count: int, weights: NDArray[np.float64] | None) -> float:
    """The score below which ``count`` of ``scores`` (n,) lie, or as many as weigh that much."""
    if weights is None:
        return float(np.sort(scores)[min(count, len(scores) - 1)])
    order = np.argsort(scores, kind="stable")
    return float(scores[order][min(int(np.searchsorted(np.cumsum(weights[order]), count)), len(scores) - 1)])


def _in_all(ranks: Ranks, place: NDArray[np.float64], share: float) -> InAll | None:
    """What a ``share`` of a sample comes to among all: as unsure as the share of places beyond the hard ones is."""
    if ranks.of is None:
        return None
    beyond = share_intervals((place > _HARD)[:, None].astype(np.float64), ranks.rows, ranks.weights)[0]
    low, high = (share + (end - beyond.value) / (1 - _HARD) for end in (beyond.low, beyond.high))
    return InAll(ranks.of, round(max(0.0, low) * ranks.of), round(high * ranks.of))


def uniform_share(place: NDArray[np.float64], gallery: int, weights: NDArray[np.float64] | None = None) -> float:
    """The share of places (n,), from 0 to 1 in a gallery of so many, that are spread evenly; 0 where none can be told.
    ``weights`` (n,), of mean 1, tell how much each counts."""
    edges = np.concatenate([[0.0], np.geomspace(1 / gallery, 1.0, _BINS)])
    counts = np.histogram(np.minimum(place, 1 - 1e-12), edges, weights=weights)[0]
    upper = norm.isf(edges)  # deviates of the edges, from infinity down
    widths = np.diff(edges)

    def known(centre: float, spread: float) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = np.diff(norm.sf((upper - centre) / spread))
        return np.maximum(shares, 1e-300)

    def loss(values: NDArray[np.float64]) -> float:
        share, centre, spread = expit(values[0]), values[1], np.exp(values[2])
        return -float(counts @ np.log((1 - share) * known(centre, spread) + share * widths))

    def without(values: NDArray[np.float64]) -> float:
        return -float(counts @ np.log(known(values[0], np.exp(values[1]))))

    starts = [(logit(share), centre, 0.0) for share in (0.01, 0.1) for centre in (2.5, 4.0)]
    best = min((_least(loss, start) for start in starts), key=lambda found: found[1])
    alone = min(_least(without, start[1:])[1] for start in starts[:2])
    share, centre, spread = float(expit(best[0][0])), float(best[0][1]), float(np.exp(best[0][2]))
    if 2 * (alone - best[1]) < _SURE or centre < _KNOWN or round(share * len(place)) < _LEAST:
        return 0.0
    left = (1 - share) * float(norm.cdf((norm.isf(_HARD) - centre) / spread))
    if left <= _MOST_LEFT * share:
        beyond = np.mean(place > _HARD) if weights is None else np.average(place > _HARD, weights=weights)
        share = (float(beyond) - left) / (1 - _HARD)
    return share if _LEAST_SHARE <= share <= _MOST_SHARE else 0.0


def _least(loss: object, start: tuple[float, ...]) -> tuple[NDArray[np.float64], float]:
    found = minimize(
        loss, np.array(start), method="Nelder-Mead", options={"maxiter": 600, "xatol": 1e-4, "fatol": 1e-6}
    )
    return found.x, float(found.fun)
