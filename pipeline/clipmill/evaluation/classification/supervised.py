"""What labels of other images add: linear probe, few-shot and nearest neighbours on the same splits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.classification.few_shot import DRAWS, SHOTS, FewShot, few_shot
from clipmill.evaluation.classification.learned_prompts import STEPS
from clipmill.evaluation.classification.neighbours import NEIGHBOURS, vote
from clipmill.evaluation.classification.per_class import mean_recall_interval, sum_by_class
from clipmill.evaluation.classification.probe import FITS, Examples, Scale, Step, Sweep, fit_predict, sweep
from clipmill.evaluation.classification.splits import Split, draw, split
from clipmill.evaluation.classification.zero_shot import UNLABELLED
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.progress import Progress
from clipmill.evaluation.retrieval.ceiling import hash_vectors
from clipmill.evaluation.statistics.bootstrap import share_intervals
from clipmill.evaluation.vectors import Vectors

MEMORY_CELLS = 1 << 26
"""Numbers that the solver may hold: images × (dimension + 2 × classes). More images than that allows are sampled."""


Learn = Callable[[Examples, Examples, Step], NDArray[np.float32]]
"""From training and validation images to a unit vector per class (c, d), told of its steps (`learned_prompts`)."""


@dataclass(frozen=True)
class Labelled:
    """The images of one dataset with their class numbers (n,), −1 for none."""

    vectors: Vectors
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class Supervised:
    """Classifiers trained on ``train`` images (the probe and the neighbours on ``validation`` ones too, once C is chosen)
    and tested on ``test`` others.

    ``labelled``: test and training images there were before ``sampled`` ones were drawn of them, where that was needed.
    ``left_out`` images belong to classes with too few to be in each split, or that training lacks; ``repeated`` test images
    have exactly the vector of a training one. ``zero_shot``: acc1 of the class prompts on the same test images,
    ``learned`` that of prompts learned from the training images.
    """

    classes: int
    train: int
    validation: int
    test: int
    labelled: int
    sampled: int
    left_out: int
    repeated: int
    linear: Interval
    linear_recall: Interval
    neighbours: dict[int, Interval]
    sweep: Sweep
    few_shot: list[FewShot]
    zero_shot: Interval | None
    learned: Interval | None = None

    @property
    def figures(self) -> list[Figure]:
        """The probe, learned prompts, then the neighbours; few-shot and zero-shot have their own places."""
        learned = [metric("probe.learned_prompts_acc1").figure(self.learned)] if self.learned else []
        return [
            metric("probe.linear_probe_acc1").figure(self.linear),
            metric("probe.linear_probe_mean_per_class_recall").figure(self.linear_recall),
            *learned,
            *(metric(f"probe.knn{k}_acc1").figure(interval) for k, interval in self.neighbours.items()),
        ]

    @property
    def zero_shot_figure(self) -> Figure | None:
        """Zero-shot on the same test images, where there are class prompts."""
        return metric("probe.zero_shot_on_test_acc1").figure(self.zero_shot) if self.zero_shot else None


@dataclass(frozen=True)
class Parts:
    """Where training and test images are: positions in ``source`` and in ``tested``, which may be the same."""

    source: Labelled
    tested: Labelled
    split: Split
    labelled: int
    sampled: int
    left_out: int


def images_at_most(dimension: int, classes: int) -> int:
    """Images of each dataset that are used at most."""
    return max(1, MEMORY_CELLS // (dimension + 2 * classes))


def part_images(tested: Labelled, trained: Labelled | None, classes: int, seed: int) -> Parts | str:
    """Splits one dataset in three; where images to train on are given, splits those in two and tests on all of ``tested``.

    Class numbers of both are of the same ``classes``. Returns a sentence where there are too few images.
    """
    most = images_at_most(tested.vectors.dimension, classes)
    sources = [tested] if trained is None else [tested, trained]
    known = [np.flatnonzero(source.numbers != UNLABELLED) for source in sources]
    drawn = [draw(one, source.vectors.rows, most, seed) for one, source in zip(known, sources, strict=True)]
    source = sources[-1]
    parts = split(drawn[-1], source.vectors.rows, source.numbers, seed, test=trained is None)
    if trained is not None:
        there = np.unique(source.numbers[parts.train])
        parts = Split(parts.train, parts.validation, drawn[0][np.isin(tested.numbers[drawn[0]], there)])
    if len(np.unique(source.numbers[parts.train])) < 2:
        needed = "three images, one to train, one to validate and one to test" if trained is None else "two images"
        of = "" if trained is None else " of the training data"
        return f"fewer than two classes{of} have {needed}"
    if not len(parts.test):
        return "no image has a label that the training data know"
    sampled = sum(len(one) for one in drawn)
    used = len(parts.train) + len(parts.validation) + len(parts.test)
    return Parts(source, tested, parts, sum(len(one) for one in known), sampled, sampled - used)


def measure_supervised(
    parts: Parts,
    classes: int,
    prompt_vectors: NDArray[np.float32] | None,
    samples: int,
    seed: int,
    progress: Progress,
    learn: Learn | None = None,
) -> Supervised:
    """Trains and tests all classifiers. ``prompt_vectors`` (c, d) are the zero-shot ones of the same class numbers, ``learn``
    makes others from the training images."""
    places = parts.split
    train, validation = _take(parts.source, places.train), _take(parts.source, places.validation)
    test_vectors, truth = parts.tested.vectors.values[places.test], parts.tested.numbers[places.test]
    scale = Scale.of(train.vectors)
    scaled, checked = (Examples(scale(one.vectors), one.classes) for one in (train, validation))
    tested = Examples(scale(test_vectors), truth)
    with progress(FITS + 1 + len(SHOTS) * (FITS + DRAWS), "linear probe") as step:
        swept = sweep(scaled, checked, step)
        hits = fit_predict(scaled.join(checked), swept.best, tested.vectors) == truth
        step(1)
        shots = few_shot(scaled, parts.source.vectors.rows[places.train], checked, tested, seed, step)
    support = np.bincount(truth, minlength=classes)
    right = sum_by_class(truth, hits.astype(np.float64), classes)
    known = np.concatenate([places.train, places.validation])
    votes = vote(parts.source.vectors.values[known], parts.source.numbers[known], test_vectors, classes)
    learned = None
    if learn is not None:
        with progress(STEPS, "learning prompts") as step:
            learned = learn(train, validation, step)

    def by_prompts(vectors: NDArray[np.float32] | None) -> Interval | None:
        if vectors is None:
            return None
        return _accuracy(np.argmax(test_vectors.astype(np.float32) @ vectors.T, axis=1) == truth)

    return Supervised(
        classes=len(np.unique(train.classes)),
        train=len(train),
        validation=len(validation),
        test=len(truth),
        labelled=parts.labelled,
        sampled=parts.sampled,
        left_out=parts.left_out,
        repeated=_repeated(parts, test_vectors),
        linear=_accuracy(hits),
        linear_recall=mean_recall_interval(right, support, samples, seed),
        neighbours={k: _accuracy(votes[k] == truth) for k in NEIGHBOURS},
        sweep=swept,
        few_shot=shots,
        zero_shot=by_prompts(prompt_vectors),
        learned=by_prompts(learned),
    )


def _take(source: Labelled, positions: NDArray[np.int64]) -> Examples:
    return Examples(source.vectors.values[positions].astype(np.float32), source.numbers[positions])


def _accuracy(hits: NDArray[np.bool_]) -> Interval:
    (interval,) = share_intervals(hits[:, None].astype(np.float64), np.arange(len(hits)))
    return interval


def _repeated(parts: Parts, test: NDArray[np.float16]) -> int:
    known = np.sort(np.concatenate([parts.split.train, parts.split.validation]))
    return int(np.isin(hash_vectors(test), hash_vectors(parts.source.vectors.values[known])).sum())
