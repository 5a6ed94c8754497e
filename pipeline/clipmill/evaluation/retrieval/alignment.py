"""How the two towers' spaces fit: cosines of matched and unmatched pairs, and the contrastive loss."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.results import HistogramData
from clipmill.evaluation.retrieval.contrastive import Loss, info_nce, sigmoid_loss
from clipmill.evaluation.retrieval.counting import pair_products
from clipmill.evaluation.retrieval.draw import evenly
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.statistics.bootstrap import share_intervals
from clipmill.evaluation.statistics.clustered import clustered_mean
from clipmill.evaluation.vectors import Vectors

BINS = 60
UNMATCHED_PAIRS = 100_000
LOSS_BATCH = 1000
PAPER_TEMPERATURE = 0.07
"""The temperature that CLIP's training begins with: at it, models with other temperatures compare."""


@dataclass(frozen=True)
class Alignment:
    """``matched``: cosine of each caption with its own image. ``unmatched``: of captions with images drawn at random.

    ``worst`` are the positions of the captions whose cosine with their own image is lowest, lowest first, and
    ``worst_images`` those of the images: captions that do not describe their image are found here. ``share_below`` is the
    share of captions whose cosine with their own image is below the mean of unmatched pairs; None without such pairs.
    """

    matched: HistogramData
    unmatched: HistogramData
    losses: tuple[Loss, ...]
    worst: NDArray[np.int64]
    worst_images: NDArray[np.int64]
    worst_scores: NDArray[np.float64]
    matched_mean: Interval | None = None
    share_below: Interval | None = None

    @property
    def figures(self) -> list[Figure]:
        """Cosines, and both figures of each loss; without unmatched pairs nothing is compared with them."""
        figures = [metric("alignment.matched_cosine").figure(self.matched_mean or self.matched.mean, self.matched.n)]
        if self.unmatched.n:
            figures.append(metric("alignment.unmatched_cosine").figure(self.unmatched.mean, self.unmatched.n))
            figures.append(metric("alignment.cosine_gap").figure(self.matched.mean - self.unmatched.mean))
        if self.share_below is not None:
            figures.append(metric("alignment.share_below_unmatched").figure(self.share_below))
        return [*figures, *(figure for loss in self.losses for figure in loss.figures)]


def align(
    captions: Vectors,
    images: Vectors,
    ranks: Ranks,
    *,
    temperature: float | None,
    bias: float | None = None,
    worst: int = 8,
    seed: int = 0,
) -> Alignment:
    """Measures the captions that were ranked among images, all or a sample. A caption has one image, so its best positive is
    its image.

    Unmatched pairs and the loss batch (one caption per image) are drawn with ``seed``. ``temperature`` is the model's, and
    ``bias`` that of a model which was trained with sigmoids; ``worst`` captions are shown.
    """
    scores = ranks.score
    random = np.random.default_rng(seed)
    # Each caption of the dataset has the same chance to be in what is drawn here, also where they were ranked at several rates.
    positions = ranks.positions[evenly(ranks.weights, len(ranks), seed)]
    count = min(UNMATCHED_PAIRS, len(positions) * max(1, len(images) - 1))
    # Captions with random images, less those that drew their own.
    caption, image = positions[random.integers(len(positions), size=count)], random.integers(len(images), size=count)
    other = captions.rows[caption] != images.rows[image]
    unmatched = pair_products(captions.values, caption[other], images.values, image[other])
    edges = _edges(np.concatenate([scores, unmatched]))
    # The batch of the loss: one random caption for each image, with that image.
    shuffled = random.permutation(positions)
    rows, first = np.unique(captions.rows[shuffled], return_index=True)
    batch = random.permutation(len(rows))[:LOSS_BATCH]
    texts = captions.values[shuffled[first[batch]]].astype(np.float32)
    order = np.argsort(images.rows, kind="stable")
    pictures = images.values[order[np.searchsorted(images.rows[order], rows[batch])]].astype(np.float32)
    losses = [info_nce(pictures, texts, PAPER_TEMPERATURE)]
    if temperature is not None and bias is not None:
        losses.insert(0, sigmoid_loss(pictures, texts, temperature, bias))
    elif temperature is not None and not math.isclose(temperature, PAPER_TEMPERATURE, rel_tol=0.01):
        losses.insert(0, info_nce(pictures, texts, temperature))
    lowest = np.argsort(scores, kind="stable")[:worst]
    below = (scores < (unmatched.mean() if len(unmatched) else 0.0))[:, None].astype(np.float64)
    return Alignment(
        matched=_histogram("matched", scores, edges, ranks.weights),
        unmatched=_histogram("unmatched", unmatched, edges),
        losses=tuple(losses),
        worst=ranks.positions[lowest],
        worst_images=ranks.best[lowest],
        worst_scores=scores[lowest],
        matched_mean=clustered_mean(scores, ranks.rows, ranks.weights),
        share_below=share_intervals(below, ranks.rows, ranks.weights)[0] if len(unmatched) else None,
    )


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1e-3, BINS + 1)


def _histogram(
    name: str, values: NDArray[np.float64], edges: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> HistogramData:
    """Counts of values between edges; ``mean`` is 0 where there are none. With ``weights`` counts are rounded, of as many
    values as there are."""
    if weights is None:
        mean, counts = float(values.mean()) if len(values) else 0.0, np.histogram(values, edges)[0]
    else:
        mean = float(np.average(values, weights=weights))
        counts = np.round(np.histogram(values, edges, weights=weights / weights.mean())[0]).astype(np.int64)
    return HistogramData(name=name, edges=edges.tolist(), counts=counts.tolist(), mean=mean, n=len(values))
