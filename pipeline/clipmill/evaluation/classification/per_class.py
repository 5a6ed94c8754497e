"""Figures in which every class counts alike, however many images it has."""

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.statistics.bootstrap import draw_outcomes, percentile_interval, share_intervals


def sum_by_class(truth: NDArray[np.int64], values: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """The sum of ``values`` (n,) over the images of each class (classes,)."""
    return np.bincount(truth, values, classes).astype(np.float64)


def class_recall(hits: NDArray[np.float64], support: NDArray[np.int64]) -> NDArray[np.float64]:
    """Hits as a share of each class's images; NaN for a class without any."""
    result: NDArray[np.float64] = np.divide(hits, support, out=np.full(hits.shape, np.nan), where=support > 0)
    return result


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
        (alike,) = share_intervals(np.full((n, 1), value), np.arange(n))
        return alike
    means = []
    for drawn in draw_outcomes(np.concatenate([hits, support - hits]), samples, seed):
        hit, missed = np.split(drawn, 2, axis=1)
        of_class = hit + missed
        recalls = np.divide(hit, of_class, out=np.zeros(hit.shape), where=of_class > 0)
        means.append(recalls.sum(axis=1) / np.sum(of_class > 0, axis=1))
    return percentile_interval(value, np.concatenate(means), n)
