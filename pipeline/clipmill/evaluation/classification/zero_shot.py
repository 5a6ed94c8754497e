"""Zero-shot classification: each image is given the class whose prompts lie nearest to it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from clipmill.core.manifests import Interval
from clipmill.evaluation.classification.calibration import Calibration, calibrate
from clipmill.evaluation.classification.per_class import class_recall, mean_recall, mean_recall_interval, sum_by_class
from clipmill.evaluation.classification.templates import prompts
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.statistics.bootstrap import mean_intervals, share_intervals

Encode = Callable[[list[str]], NDArray[np.float32]]
"""Texts to their vectors, float32 (texts, d)."""
UNLABELLED = -1
TEMPLATE_IMAGES = 20_000
"""Images at most on which templates are compared: each template costs as much as all of them together."""
_EQUAL = 1e-9


@dataclass(frozen=True)
class TemplateEffect:
    """acc1 of every template alone, that of all together on the same images, and each one's difference from that."""

    alone: list[Interval]
    together: Interval
    differences: list[Interval]

    @property
    def mean(self) -> float:
        """The mean over templates of the acc1 of each alone."""
        return float(np.mean([interval.value for interval in self.alone]))

    @property
    def figures(self) -> list[Figure]:
        """acc1 of all templates together, and of one on average."""
        together, mean = metric("zero-shot.template_ensemble_acc1"), metric("zero-shot.template_mean_acc1")
        return [together.figure(self.together), mean.figure(self.mean, self.together.n)]


@dataclass(frozen=True)
class ZeroShot:
    """Counts by class: images of it (``support``), and those whose class is first, or among the first five.

    Where two classes score the same, hits are expected numbers over their random order. ``confusions`` counts images
    by (class, class that came first) where they differ, most frequent first. ``unlabelled`` images were left out.
    ``vectors`` (c, d) are those of the classes. ``positions``, ``truth``, ``each1`` and ``each5`` (images,) are the place
    in the dataset, the class and the hits of each labelled image.
    """

    classes: tuple[str, ...]
    support: NDArray[np.int64]
    hits1: NDArray[np.float64]
    hits5: NDArray[np.float64]
    confusions: tuple[tuple[str, str, int], ...]
    unlabelled: int
    vectors: NDArray[np.float32]
    intervals: dict[str, Interval]
    calibration: Calibration | None = None
    templates: TemplateEffect | None = None
    positions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    truth: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    each1: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    each5: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def images(self) -> int:
        """How many images have a label."""
        return int(self.support.sum())

    @property
    def acc1(self) -> float:
        """The share of images whose class came first."""
        return float(self.hits1.sum() / self.images)

    @property
    def acc5(self) -> float | None:
        """The share of images whose class is among the first five; None below five classes."""
        return float(self.hits5.sum() / self.images) if len(self.classes) >= 5 else None

    @property
    def mean_per_class_recall(self) -> float:
        """The mean of `class_recall` over the classes that have images."""
        return mean_recall(self.hits1, self.support)

    @property
    def class_recall(self) -> NDArray[np.float64]:
        """For each class the share of its images that get the right class; NaN for a class without images."""
        return class_recall(self.hits1, self.support)

    @property
    def figures(self) -> list[Figure]:
        """Accuracies with their intervals; acc5 only where there are five classes."""
        names = [name for name in self.intervals if name != "acc5" or self.acc5 is not None]
        return [metric(f"zero-shot.{name}").figure(self.intervals[name]) for name in names]


def template_vectors(encode: Encode, classes: Sequence[str], templates: tuple[str, ...]) -> NDArray[np.float32]:
    """One unit vector per class and template, float32 (c, t, d)."""
    texts = [prompt for name in classes for prompt in prompts(templates, name)]
    return _unit(encode(texts)).reshape(len(classes), len(templates), -1)


def class_vectors(encode: Encode, classes: Sequence[str], templates: tuple[str, ...]) -> NDArray[np.float32]:
    """One unit vector per class, float32 (c, d): see `ensemble`."""
    return ensemble(template_vectors(encode, classes, templates))


def ensemble(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """One unit vector per class (c, d) from `template_vectors`: each prompt normalised, averaged, normalised again.

    Radford et al. 2021, section 3.1.4.
    """
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
    *,
    logit_scale: float | None = None,
    logit_bias: float | None = None,
    by_template: NDArray[np.float32] | None = None,
    template_share: float = 1.0,
) -> ZeroShot:
    """Scores image vectors (n, d) with their class numbers (n,), −1 for no label, batch by batch.

    Some image has a label. ``classes`` are told apart by number, so names may repeat. The score is the inner product
    with the class's vector, in float64. With a ``logit_scale``, the softmax of scores times it is checked for
    calibration, or, with a ``logit_bias`` too, the sigmoid. With the vectors of each template, (c, t, d), these are
    compared in the same pass, on a random ``template_share`` of the images.
    """
    weights, random = prompt_vectors.astype(np.float64).T, np.random.default_rng(seed)
    positions, labels_seen, alone, scored = [], [], [], list[_Scored]()
    unlabelled = seen = 0
    for vectors, labels in batches:
        known = labels != UNLABELLED
        unlabelled += int(np.sum(~known))
        positions.append(seen + np.flatnonzero(known))
        seen += len(labels)
        if not len(labels := labels[known]):
            continue
        images = vectors[known].astype(np.float64)
        labels_seen.append(labels)
        scored.append(_Scored.of(images @ weights, labels, logit_scale, logit_bias))
        if by_template is not None:
            chosen = random.random(len(labels)) < template_share
            each = _hits_by_template(images[chosen], labels[chosen], by_template)
            alone.append(np.column_stack([each, scored[-1].hits1[chosen]]))
    truth, answers, count = np.concatenate(labels_seen), _Scored.join(scored), len(classes)
    one, five = answers.hits1, answers.hits5
    acc1, acc5 = share_intervals(np.stack([one, five], axis=1), np.arange(len(truth)))
    support, right = np.bincount(truth, minlength=count), sum_by_class(truth, one, count)
    recall = mean_recall_interval(right, support, samples, seed)
    calibration = None
    if logit_scale is not None:
        calibration = calibrate(answers.confidence, one, logit_scale, samples, seed, logit_bias=logit_bias)
    return ZeroShot(
        classes=tuple(classes),
        support=support,
        hits1=right,
        hits5=sum_by_class(truth, five, count),
        confusions=_confusions(truth, answers.first, classes),
        unlabelled=unlabelled,
        vectors=prompt_vectors,
        intervals={"acc1": acc1, "acc5": acc5, "mean_per_class_recall": recall},
        calibration=calibration,
        templates=_template_effect(np.concatenate(alone), samples, seed) if alone else None,
        positions=np.concatenate(positions),
        truth=truth,
        each1=one,
        each5=five,
    )


@dataclass(frozen=True)
class _Scored:
    """Hits among the first and the first five, the class that came ``first``, and its confidence, each (n,)."""

    hits1: NDArray[np.float64]
    hits5: NDArray[np.float64]
    first: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @staticmethod
    def of(
        scores: NDArray[np.float64],
        labels: NDArray[np.int64],
        logit_scale: float | None,
        logit_bias: float | None = None,
    ) -> "_Scored":
        """From ``scores`` (n, c) of images with these ``labels`` (n,); without a ``logit_scale`` no confidence is known."""
        confidence = np.full(len(labels), np.nan)
        if logit_scale is not None and logit_bias is not None:
            confidence = expit(logit_scale * scores.max(axis=1) + logit_bias)
        elif logit_scale is not None:
            confidence = 1 / np.exp(logit_scale * (scores - scores.max(axis=1, keepdims=True))).sum(axis=1)
        return _Scored(_hits(scores, labels, 1), _hits(scores, labels, 5), np.argmax(scores, axis=1), confidence)

    @staticmethod
    def join(pieces: Sequence["_Scored"]) -> "_Scored":
        """Several batches, one after the other."""
        return _Scored(*(np.concatenate([getattr(piece, field.name) for piece in pieces]) for field in fields(_Scored)))


def _hits(scores: NDArray[np.float64], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Whether each label (n,) is among the ``k`` classes with the highest of ``scores`` (n, c); ties share their places."""
    own = scores[np.arange(len(labels)), labels][:, None]
    higher = np.sum(scores > own + _EQUAL, axis=1)
    tied = np.sum(np.abs(scores - own) <= _EQUAL, axis=1)
    result: NDArray[np.float64] = np.clip((k - higher) / tied, 0, 1)
    return result


def _hits_by_template(
    images: NDArray[np.float64], labels: NDArray[np.int64], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Hits at 1 (n, t) of each template alone."""
    templates = range(vectors.shape[1])
    each = [_hits(images @ vectors[:, number].astype(np.float64).T, labels, 1) for number in templates]
    return np.stack(each, axis=1)


def _template_effect(hits: NDArray[np.float64], samples: int, seed: int) -> TemplateEffect | None:
    """From hits (n, t + 1), of which the last column is all templates together."""
    if not len(hits):
        return None
    rows, together = np.arange(len(hits)), hits[:, -1:]
    alone, differences = [], []
    for number in range(hits.shape[1] - 1):
        one = hits[:, number, None]
        alone += share_intervals(one, rows)
        differences += mean_intervals(one - together, rows, samples, seed)
    return TemplateEffect(alone, share_intervals(together, rows)[0], differences)


def _confusions(
    truth: NDArray[np.int64], first: NDArray[np.int64], classes: Sequence[str]
) -> tuple[tuple[str, str, int], ...]:
    wrong = truth != first
    pairs, counts = np.unique(np.column_stack([truth[wrong], first[wrong]]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:20]
    return tuple((classes[pairs[i, 0]], classes[pairs[i, 1]], int(counts[i])) for i in order)
