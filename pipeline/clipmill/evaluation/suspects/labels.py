"""Images of one class that look like those of another: found by classifiers that have not seen them.

Two opinions are asked: a linear classifier trained on the labels of the other images, and the model's own class names. Natural
confusion goes both ways; images that carry a wrong label go one way only, and that is what is tested.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.vectors import Vectors

_MOST = 20_000
_FOLDS = 5
_RIDGE = 1e-2
_LEAST, _LEVEL = 5, 0.01
_NAMED_SHARE, _KNOWN = 0.2, 0.6
"""By class names alone: so much of a class, by a model that names so many images right."""


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
    learned = out_of_fold(images.values[chosen].astype(np.float32), truth, classes, seed)
    counts = np.bincount(truth * classes + learned, minlength=classes * classes).reshape(classes, classes)
    found = _one_way(counts, len(labelled) / len(chosen), seen=True)
    if named is not None and np.trace(named) >= _KNOWN * len(labelled):
        found += [one for one in _one_way(named, 1.0, seen=False) if one.count >= _NAMED_SHARE * one.images]
    best: dict[tuple[int, int], Confused] = {}
    for one in sorted(found, key=lambda one: (-one.count, not one.seen)):
        if (one.other, one.label) not in best:
            best.setdefault((one.label, one.other), one)
    return list(best.values())


def _one_way(counts: NDArray[np.int64], scale: float, *, seen: bool) -> list[Confused]:
    """The pairs that more images go one way between than come back, by more than chance. ``counts`` (c, c) are of a sample of
    one in ``scale`` images, by class and by the class that was taken for it."""
    sizes, pairs = np.maximum(counts.sum(axis=1), 1), max(1, counts.size - len(counts))
    found = []
    for label, other in np.argwhere(counts >= _LEAST).tolist():
        there, back, share = int(counts[label, other]), int(counts[other, label]), sizes[label] / sizes[other]
        if label == other or binom.sf(there - 1, there + back, share / (1 + share)) >= _LEVEL / pairs:
            continue
        count = there - back * share
        if count >= _LEAST:
            found.append(Confused(label, other, round(count * scale), round(int(sizes[label]) * scale), seen))
    return found


def out_of_fold(values: NDArray[np.float32], truth: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
    """The class (n,) of each vector (n, d) by ridge regression on the classes of the other folds, all classes weighing the
    same."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(truth)) % _FOLDS
    centred = (values - values.mean(axis=0)).astype(np.float64)
    features = np.concatenate([centred, np.ones((len(centred), 1))], axis=1)
    guessed = np.empty(len(truth), np.int64)
    for at in range(_FOLDS):
        train, test = fold != at, fold == at
        sizes = np.bincount(truth[train], minlength=classes)
        weight = 1 / np.maximum(sizes[truth[train]], 1)
        weighted = features[train] * weight[:, None]
        gram = weighted.T @ features[train]
        gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram[:-1, :-1]) / max(1, len(gram) - 1)
        targets = np.zeros((int(train.sum()), classes))
        targets[np.arange(len(targets)), truth[train]] = 1
        scores = features[test] @ np.linalg.solve(gram, weighted.T @ targets)
        scores[:, sizes == 0] = -np.inf
        guessed[test] = scores.argmax(axis=1)
    return guessed
