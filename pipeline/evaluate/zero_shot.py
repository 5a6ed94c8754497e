"""Zero-shot classification: each image is given the class whose prompts lie nearest to it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.bootstrap import LEVEL, mean_intervals
from pipeline.evaluate.templates import prompts
from pipeline.schemas import Interval

Encode = Callable[[list[str]], NDArray[np.float32]]
UNLABELLED = -1
_EQUAL = 1e-9
_CELLS = 20_000_000


@dataclass(frozen=True)
class ZeroShot:
    """Counts a class: images of it (``support``), and those whose class is first, or among the first five.

    Where two classes score the same, hits are expected numbers over their random order. ``confusions`` counts images
    by (class, class that came first) where they differ, most frequent first. ``unlabelled`` images were left out.
    """

    classes: tuple[str, ...]
    support: NDArray[np.int64]
    hits1: NDArray[np.float64]
    hits5: NDArray[np.float64]
    confusions: tuple[tuple[str, str, int], ...]
    unlabelled: int
    intervals: dict[str, Interval]

    @property
    def images(self) -> int:
        return int(self.support.sum())

    @property
    def acc1(self) -> float:
        """Share of labelled images for which the right class scores highest."""
        return float(self.hits1.sum() / self.images)

    @property
    def acc5(self) -> float | None:
        """Share of labelled images with the right class among the five that score highest; none below five classes."""
        return float(self.hits5.sum() / self.images) if len(self.classes) >= 5 else None

    @property
    def mean_per_class_recall(self) -> float:
        """Mean over classes of the share of their images that get the right class: every class counts alike."""
        return float(self.class_recall.mean())

    @property
    def class_recall(self) -> NDArray[np.float64]:
        """For each class the share of its images that get the right class."""
        return self.hits1 / self.support


def class_vectors(encode: Encode, classes: Sequence[str], templates: tuple[str, ...]) -> NDArray[np.float32]:
    """One unit vector a class, float32 (c, d): each prompt's embedding normalised, averaged, normalised again.

    Radford et al. 2021, section 3.1.4.
    """
    texts = [prompt for name in classes for prompt in prompts(templates, name)]
    vectors = _unit(encode(texts)).reshape(len(classes), len(templates), -1)
    return _unit(vectors.mean(axis=1))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


def classify(
    batches: Iterable[tuple[NDArray[np.float16], NDArray[np.int64]]],
    classes: Sequence[str],
    prompt_vectors: NDArray[np.float32],
    samples: int = 1000,
    seed: int = 0,
) -> ZeroShot:
    """Scores image vectors (n, d) with their class numbers (n,), −1 for no label, batch by batch.

    Every class has at least one image. The score is the inner product with the class's vector, in float64.
    """
    weights = prompt_vectors.astype(np.float64).T
    true_class, hits1, hits5, first = [], [], [], []
    unlabelled = 0
    for vectors, labels in batches:
        known = labels != UNLABELLED
        unlabelled += int(np.sum(~known))
        labels = labels[known]
        if not len(labels):
            continue
        scores = vectors[known].astype(np.float64) @ weights
        own = scores[np.arange(len(labels)), labels][:, None]
        higher = np.sum(scores > own + _EQUAL, axis=1)
        tied = np.sum(np.abs(scores - own) <= _EQUAL, axis=1)
        true_class.append(labels)
        hits1.append(np.clip((1 - higher) / tied, 0, 1))
        hits5.append(np.clip((5 - higher) / tied, 0, 1))
        first.append(np.argmax(scores, axis=1))
    truth, one, five = np.concatenate(true_class), np.concatenate(hits1), np.concatenate(hits5)
    count = len(classes)
    acc1, acc5 = mean_intervals(np.stack([one, five], axis=1), np.arange(len(truth)), samples, seed)
    support = np.bincount(truth, minlength=count)
    result = ZeroShot(
        classes=tuple(classes),
        support=support,
        hits1=_sum_by_class(truth, one, count),
        hits5=_sum_by_class(truth, five, count),
        confusions=_confusions(truth, np.concatenate(first), classes),
        unlabelled=unlabelled,
        intervals={"acc1": acc1, "acc5": acc5},
    )
    result.intervals["mean_per_class_recall"] = _recall_interval(result, samples, seed)
    return result


def _sum_by_class(truth: NDArray[np.int64], values: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    return np.bincount(truth, values, classes).astype(np.float64)


def _confusions(
    truth: NDArray[np.int64], first: NDArray[np.int64], classes: Sequence[str]
) -> tuple[tuple[str, str, int], ...]:
    wrong = truth != first
    pairs, counts = np.unique(np.column_stack([truth[wrong], first[wrong]]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:20]
    return tuple((classes[pairs[i, 0]], classes[pairs[i, 1]], int(counts[i])) for i in order)


def _recall_interval(result: ZeroShot, samples: int, seed: int) -> Interval:
    """Images resampled over all classes; a class that a resample leaves out does not count in it."""
    value, n = result.mean_per_class_recall, result.images
    if value in (0.0, 1.0) or not samples:
        return result.intervals["acc1"].model_copy(update={"value": value})
    cells = np.concatenate([result.hits1, result.support - result.hits1]) / n
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // len(cells))
    means = []
    for start in range(0, samples, step):
        hits, misses = np.split(random.multinomial(n, cells, min(step, samples - start)), 2, axis=1)
        drawn = hits + misses
        recalls = np.divide(hits, drawn, out=np.zeros(hits.shape), where=drawn > 0)
        means.append(recalls.sum(axis=1) / np.sum(drawn > 0, axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=n)
