"""Images of one class that look like those of another: found by classifiers that have not seen them.

Two opinions are asked: a linear classifier trained on the labels of the other images, and the model's own class names. To the
classifier, images that carry a wrong label differ from honest confusion: they go one way only, or lie far outside of what their
class is like; and it is as sure of them as it is of images that are of the other class.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, poisson

from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.vectors import Vectors

_MOST = 20_000
_FOLDS = 5
_RIDGE = 1e-2
_LEAST, _LEVEL = 5, 0.01
_NAMED_SHARE, _KNOWN = 0.2, 0.6
"""By class names alone: so much of a class, by a model that names so many images right."""
_LEARNED = 0.8
"""A classifier that is right less often confuses so much that its mistakes say nothing of labels."""
_AS_SURE = 0.75
"""Of those of the other class: so sure is the classifier of images that carry a wrong label, and less of honest mistakes."""
_FAR_SHARE = 0.8
"""So many of the images in question lie as far out as is tested."""
_UNSEEN = -1e3
"""The score of a class that no trusted image of the other folds has."""
_NORMAL = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""


@dataclass(frozen=True)
class Confused:
    """``count`` of the ``images`` with this ``label`` look like ``other``: to a classifier trained on the labels (``seen``), so
    their labels are probably wrong; else to the class names only, so that either may be."""

    label: int
    other: int
    count: int
    images: int
    seen: bool


def find_confused(
    images: Vectors, numbers: NDArray[np.int64], classes: int, named: NDArray[np.int64] | None = None, seed: int = 0
) -> list[Confused]:
    """The pairs of classes of which one takes images of the other, the largest first. ``numbers`` (n,) are the classes of
    images, −1 without one; ``named`` (c, c) counts images by class and by what the class names make of them."""
    labelled = np.flatnonzero(numbers >= 0)
    if classes < 2 or len(labelled) < 2 * _FOLDS:
        return []
    chosen = labelled[draw(len(labelled), _MOST, np.random.default_rng(seed))]
    truth = numbers[chosen]
    learned = Learned(out_of_fold(images.values[chosen].astype(np.float32), truth, classes, seed), truth)
    found = learned.confused(len(labelled) / len(chosen))
    if named is not None and np.trace(named) >= _KNOWN * len(labelled):
        found += [
            Confused(label, other, round(count), int(named[label].sum()), False)
            for label, other, count in _one_way(named)
            if count >= max(_LEAST, _NAMED_SHARE * named[label].sum())
        ]
    best: dict[tuple[int, int], Confused] = {}
    for one in sorted(found, key=lambda one: (-one.count, not one.seen)):
        if (one.other, one.label) not in best:
            best.setdefault((one.label, one.other), one)
    return list(best.values())


def _one_way(counts: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    """The pairs that more images go one way between than come back, by more than chance, and how many more. ``counts`` (c, c)
    are images by class and by the class that was taken for it."""
    level = _LEVEL / max(1, counts.size - len(counts))
    found = []
    for label, other in np.argwhere(counts >= _LEAST).tolist():
        there, back, share = int(counts[label, other]), int(counts[other, label]), _share(counts, label, other)
        if label != other and binom.sf(there - 1, there + back, share / (1 + share)) < level:
            found.append((label, other, there - back * share))
    return found


def _share(counts: NDArray[np.int64], label: int, other: int) -> float:
    """How much larger one class is than another."""
    sizes = np.maximum(counts.sum(axis=1), 1)
    return float(sizes[label] / sizes[other])


@dataclass(frozen=True)
class Learned:
    """The ``scores`` (n, c) of classifiers that have not seen an image, and its label, ``truth`` (n,)."""

    scores: NDArray[np.float64]
    truth: NDArray[np.int64]

    @cached_property
    def others(self) -> NDArray[np.int64]:
        """The best class (n,) besides the label."""
        return np.asarray(self._without_label.argmax(axis=1))

    @cached_property
    def margins(self) -> NDArray[np.float64]:
        """How much better the label scores than any other class (n,): below 0 where it is taken for another."""
        return np.asarray(self.scores[np.arange(len(self.truth)), self.truth] - self._without_label.max(axis=1))

    @cached_property
    def _without_label(self) -> NDArray[np.float64]:
        scores = self.scores.copy()
        scores[np.arange(len(self.truth)), self.truth] = -np.inf
        return scores

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Images (c, c) by label and by the class that they are taken for."""
        classes = self.scores.shape[1]
        taken = np.where(self.margins < 0, self.others, self.truth)
        return np.bincount(self.truth * classes + taken, minlength=classes**2).reshape(classes, classes)

    def confused(self, scale: float) -> list[Confused]:
        """The pairs of classes of which one carries labels of the other; images are one in ``scale`` of all."""
        if np.mean(self.margins >= 0) < _LEARNED:
            return []
        one_way = {(label, other) for label, other, _ in _one_way(self.counts)}
        found = []
        for label, other in np.argwhere(self.counts >= _LEAST).tolist():
            if label == other or not ((label, other) in one_way or self._lies_far_out(label, other)):
                continue
            count = self.counts[label, other] - self.counts[other, label] * _share(self.counts, label, other)
            if count >= _LEAST and self._is_as_sure(label, other):
                images = round(int(self.counts[label].sum()) * scale)
                found.append(Confused(label, other, round(count * scale), images, True))
        return found

    def _lies_far_out(self, label: int, other: int) -> bool:
        """Whether more images of a class are taken for another, so far from how its images score, than any distribution could
        have there: of n values, n / (1 + z²) lie z standard deviations or more below the mean (Cantelli)."""
        of_class = self.margins[self.truth == label]
        middle = np.median(of_class)
        deviation = _NORMAL * np.median(np.abs(of_class - middle)) + np.finfo(np.float32).eps
        far = np.sort((middle - self._taken(label, other)) / deviation)[::-1]
        count = int(np.ceil(_FAR_SHARE * len(far)))
        expected = len(of_class) / (1 + far[count - 1] ** 2)
        classes = self.scores.shape[1]
        return bool(poisson.sf(count - 1, expected) < _LEVEL / (classes * (classes - 1)))

    def _is_as_sure(self, label: int, other: int) -> bool:
        rightly = self.margins[(self.truth == other) & (self.margins > 0)]
        return len(rightly) > 0 and bool(-np.median(self._taken(label, other)) >= _AS_SURE * np.median(rightly))

    def _taken(self, label: int, other: int) -> NDArray[np.float64]:
        """The margins of the images of a class that are taken for another."""
        return np.asarray(self.margins[(self.truth == label) & (self.others == other) & (self.margins < 0)])


def out_of_fold(values: NDArray[np.float32], truth: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.float64]:
    """The scores (n, c) of each vector (n, d) by ridge regression on the classes of the other folds, all classes weighing the
    same. What a first one takes for another class than its label, the second does not learn from: where many labels of a class
    are wrong, they would teach it to accept them."""
    everything = np.ones(len(truth), np.bool_)
    first = _scores(values, truth, everything, classes, seed)
    return _scores(values, truth, first.argmax(axis=1) == truth, classes, seed)


def _scores(
    values: NDArray[np.float32], truth: NDArray[np.int64], trusted: NDArray[np.bool_], classes: int, seed: int
) -> NDArray[np.float64]:
    fold = np.random.default_rng(seed).permutation(len(truth)) % _FOLDS
    centred = (values - values.mean(axis=0)).astype(np.float64)
    features = np.concatenate([centred, np.ones((len(centred), 1))], axis=1)
    scores: NDArray[np.float64] = np.full((len(truth), classes), _UNSEEN)
    for at in range(_FOLDS):
        train, test = trusted & (fold != at), fold == at
        if not train.any():
            continue
        sizes = np.bincount(truth[train], minlength=classes)
        weight = 1 / np.maximum(sizes[truth[train]], 1)
        weighted = features[train] * weight[:, None]
        gram = weighted.T @ features[train]
        ridge = _RIDGE * np.trace(gram[:-1, :-1]) / max(1, len(gram) - 1)
        gram[np.diag_indices_from(gram)] += max(float(ridge), float(np.finfo(np.float32).eps))
        targets = np.zeros((int(train.sum()), classes))
        targets[np.arange(len(targets)), truth[train]] = 1
        scores[test] = features[test] @ np.linalg.solve(gram, weighted.T @ targets)
        scores[np.ix_(test, sizes == 0)] = _UNSEEN
    return np.asarray(scores)
