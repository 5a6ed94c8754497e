"""Calibration: how far a classifier's confidence can be trusted as a probability."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import LEVEL
from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, metric

BINS = 15
NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True)
class Calibration:
    """Images by confidence, in `BINS` bins of equal width over (0, 1]: how many (``counts``), and the sums of their
    confidence and of their correctness. ``logit_scale`` is that of the softmax, or, with a ``logit_bias``, of the sigmoid."""

    logit_scale: float
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]
    intervals: dict[str, Interval]
    logit_bias: float | None = None

    @property
    def error(self) -> float:
        """The distance between confidence and accuracy in a bin, averaged over images."""
        return _error(self.confidence, self.correct, int(self.counts.sum()))

    @property
    def mean_confidence(self) -> float:
        """The mean confidence of the class that came first."""
        return float(self.confidence.sum() / self.counts.sum())

    @property
    def figures(self) -> list[Figure]:
        """Both with their intervals."""
        by = "the softmax over classes at the model's own temperature"
        if self.logit_bias is not None:
            by = "the sigmoid of the class's score at the model's own logit scale and bias"
        error = metric("zero-shot.calibration_error", bins=BINS, confidence=f"T{by[1:]}")
        confidence = metric("zero-shot.mean_confidence", confidence=by)
        return [error.figure(self.intervals["error"]), confidence.figure(self.intervals["mean_confidence"])]


def _error(confidence: NDArray[np.float64], correct: NDArray[np.float64], images: int) -> float:
    """Σ over bins of |right answers − confidence|, over the images; both are sums by bin."""
    return float(np.abs(correct - confidence).sum()) / images


def calibrate(
    confidence: NDArray[np.float64],
    correct: NDArray[np.float64],
    logit_scale: float,
    samples: int = 1000,
    seed: int = 0,
    *,
    logit_bias: float | None = None,
) -> Calibration:
    """The calibration of answers with a ``confidence`` (n,) in (0, 1], of which ``correct`` (n,), from 0 to 1, says
    whether they were right."""
    bins = bin_of(confidence)
    counts = np.bincount(bins, minlength=BINS)
    sure, right = (np.bincount(bins, values, BINS).astype(np.float64) for values in (confidence, correct))
    mean = float(confidence.mean())
    spread = NORMAL_QUANTILE * float(confidence.std()) / np.sqrt(len(bins))
    around = Interval(value=mean, low=max(0.0, mean - spread), high=min(1.0, mean + spread), n=len(bins))
    error = _error_interval(bins, confidence, correct, samples, seed)
    intervals = {"error": error, "mean_confidence": around}
    return Calibration(logit_scale, counts, sure, right, intervals, logit_bias)


def bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence: bin i holds (i / 15, (i + 1) / 15]."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _error_interval(
    bins: NDArray[np.int64],
    confidence: NDArray[np.float64],
    correct: NDArray[np.float64],
    samples: int,
    seed: int,
) -> Interval:
    """The error with its interval. ``correct`` between 0 and 1 counts as a chance of being right.

    Upper end: the basic bootstrap, which takes what resampling adds to the error to be what sampling added to it. Lower
    end: by the triangle inequality the error is off by no more than the sum over bins of how far each bin's gap is off,
    whose distribution the bootstrap gives; this holds for an honest classifier too, whose error is 0.
    """
    # For each bin the images that are right and those that are wrong, and the mean confidence of each: (2, bins).
    right = np.stack([np.bincount(bins, correct, BINS), np.bincount(bins, 1 - correct, BINS)])
    sure = np.stack(
        [np.bincount(bins, confidence * correct, BINS), np.bincount(bins, confidence * (1 - correct), BINS)]
    )
    each = np.divide(sure, right, out=np.zeros(right.shape), where=right > 0)
    value, n = _error(sure.sum(axis=0), right[0], len(bins)), len(bins)
    if not samples:
        return Interval(value=value, low=value, high=value, n=n)
    # How often each of these 2 · bins cells occurs in a resample, and with it the gap of each bin, in images.
    random = np.random.default_rng(seed)
    drawn = random.multinomial(n, right.reshape(-1) / right.sum(), samples).reshape(samples, 2, BINS)
    gaps = (drawn * each).sum(axis=1) - drawn[:, 0]
    errors, off = np.abs(gaps).sum(axis=1) / n, np.abs(gaps - (sure.sum(axis=0) - right[0])).sum(axis=1) / n
    tail = (1 - LEVEL) / 2
    low, high = value - float(np.quantile(off, 1 - tail)), 2 * value - float(np.quantile(errors, tail))
    return Interval(value=value, low=max(0.0, low), high=max(value, high), n=n)
