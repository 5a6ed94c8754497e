"""Few-shot classification: linear classifiers trained on a handful of images per class, several times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import LEVEL
from clipmill.core.manifests import Interval
from clipmill.evaluation.classification.probe import FITS, Examples, Step, fit_predict, sweep
from clipmill.evaluation.classification.splits import hash_rows, order_in_class
from clipmill.evaluation.figures import Figure, metric

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 5


@dataclass(frozen=True)
class FewShot:
    """``accuracy`` over all draws, that of each of the ``draws``, and log₁₀ of the C that all of them used. ``short`` classes
    have fewer training images than ``shots``; they gave all they have."""

    shots: int
    accuracy: Interval
    draws: tuple[float, ...]
    exponent: float
    short: int

    @property
    def figure(self) -> Figure:
        """Accuracy over all draws."""
        return metric(f"probe.few_shot_{self.shots}_acc1", draws=DRAWS).figure(self.accuracy)


def few_shot(
    train: Examples,
    rows: NDArray[np.int64],
    validation: Examples,
    test: Examples,
    seed: int,
    step: Step = lambda done: None,
) -> list[FewShot]:
    """Trains on the first `SHOTS` images of each class in `DRAWS` random orders, by row (n,) of the training images.

    C is swept on the validation split with the first draw. Shots that no class has are left out. ``step`` is called with
    the fits just done.
    """
    sizes = np.unique(train.classes, return_counts=True)[1]
    found = []
    places = [order_in_class(hash_rows(rows, seed, 3, number), train.classes) for number in range(DRAWS)]
    for shots in SHOTS:
        if shots > sizes.max(initial=0):
            step(FITS + DRAWS)
            continue
        chosen = [np.flatnonzero(place < shots) for place in places]
        sets = [Examples(train.vectors[one], train.classes[one]) for one in chosen]
        exponent = sweep(sets[0], validation, step).best
        hits = []
        for one in sets:
            hits.append(fit_predict(one, exponent, test.vectors) == test.classes)
            step(1)
        means = tuple(float(hit.mean()) for hit in hits)
        found.append(FewShot(shots, mean_over_draws(hits), means, exponent, int(np.sum(sizes < shots))))
    return found


def mean_over_draws(hits: Sequence[NDArray[np.bool_]]) -> Interval:
    """The mean of several draws' hits on the same images, each (n,), with its 95% interval.

    Both the draw of training images and the choice of test images are chance: the variance of the mean over draws and
    that of the mean over images are added, with Student's t of one degree of freedom less than there are draws. Where
    all hits are alike, the interval is Clopper and Pearson's (1934) for one draw.
    """
    from scipy.stats import t

    table = np.stack(hits).astype(np.float64)
    draws, images = table.shape
    value, tail = float(table.mean()), (1 - LEVEL) / 2
    if value in (0.0, 1.0):
        margin = 1 - tail ** (1 / images)
        return Interval(value=value, low=max(0.0, value - margin), high=min(1.0, value + margin), n=images)
    of_draws = table.mean(axis=1).var(ddof=1) / draws
    of_images = table.mean(axis=0).var() / images
    margin = float(t.ppf(1 - tail, draws - 1) * np.sqrt(of_draws + of_images))
    return Interval(value=value, low=max(0.0, value - margin), high=min(1.0, value + margin), n=images)
