"""Figures in which every class counts alike, however many images it has."""

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.statistics.bootstrap import LEVEL, mean_intervals

_CELLS = 20_000_000


def sum_by_class(truth: NDArray[np.int64], values: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """The sum of ``values`` (n,) over the images of each class (classes,)."""
    return np.bincount(truth, values, classes).astype(np.float64)


def class_recall(hits: NDArray[np.float64], support: NDArray[np.int64]) -> NDArray[np.float64]:
    """Hits as a share of each class's images; NaN for a class without any."""
    return np.divide(hits, support, out=np.full(hits.shape, np.nan), where=support > 0)


def mean_recall(hits: NDArray[np.float64], support: NDArray[np.int64]) -> float:
    """Mean over the classes that have images of the share of them that were hit."""
    return float(np.nanmean(class_recall(hits, support)))


def mean_recall_interval(
    hits: NDArray[np.float64], support: NDArray[np.int64], samples: int, seed: int = 0
) -> Interval:
    """`mean_recall` with its percentile interval: images resampled over all classes; a class that a resample leaves out
    does not count in it. Where all or none are hits, Clopper and Pearson's (1934)."""
    value, n = mean_recall(hits, support), int(support.sum())
    if value in (0.0, 1.0) or not samples:
        (alike,) = mean_intervals(np.full((n, 1), value), np.arange(n), 0)
        return alike
    cells = np.concatenate([hits, support - hits]) / n
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // len(cells))
    means = []
    for start in range(0, samples, step):
        hit, missed = np.split(random.multinomial(n, cells, min(step, samples - start)), 2, axis=1)
        drawn = hit + missed
        recalls = np.divide(hit, drawn, out=np.zeros(hit.shape), where=drawn > 0)
        means.append(recalls.sum(axis=1) / np.sum(drawn > 0, axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=n)
