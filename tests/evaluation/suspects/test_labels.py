"""Wrong labels go one way, and are told with the class that they carry and the one they should; honest confusion is not."""

import numpy as np
import pytest

from clipmill.evaluation.suspects.labels import find_confused, out_of_fold
from clipmill.evaluation.vectors import Vectors

N, CLASSES, DIMENSION = 2500, 8, 48


def images_of(seed: int, noise: float) -> tuple[Vectors, np.ndarray, np.ndarray]:
    """Images around the directions of classes of very different sizes, their classes, and what the names make of them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, DIMENSION))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    weights = 1 / np.arange(1, CLASSES + 1)
    truth = rng.choice(CLASSES, N, p=weights / weights.sum())
    vectors = centres[truth] + rng.normal(0, noise / np.sqrt(DIMENSION), (N, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Vectors(np.arange(N), vectors.astype(np.float16)), truth, (vectors @ centres.T).argmax(axis=1)


def counted(labels: np.ndarray, named: np.ndarray) -> np.ndarray:
    return np.bincount(labels * CLASSES + named, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


@pytest.mark.parametrize("noise", [1.0, 1.6])
@pytest.mark.parametrize("rate", [0.01, 0.025, 0.05, 0.1])
def test_wrong_labels_of_one_class_are_named_with_their_number(rate: float, noise: float) -> None:
    close = []
    for seed in range(810, 818):
        images, truth, named = images_of(seed, noise)
        wrong = np.random.default_rng(seed).permutation(np.flatnonzero(truth == 0))[: round(rate * N)]
        labels = truth.copy()
        labels[wrong] = 3
        first, *_ = find_confused(images, labels, CLASSES, counted(labels, named))
        assert (first.label, first.other) == (3, 0)
        assert first.images == np.sum(labels == 3)
        close.append(abs(first.count - len(wrong)) <= max(1, 0.1 * len(wrong)))
    assert np.mean(close) >= 0.8


@pytest.mark.parametrize("noise", [1.0, 1.6, 3.0, 6.0])
def test_nothing_is_told_of_right_labels(noise: float) -> None:
    told = 0
    for seed in range(900, 920):
        images, truth, named = images_of(seed, noise)
        told += bool(find_confused(images, truth, CLASSES, counted(truth, named)))
    assert told <= 1


def test_a_class_whose_name_says_another_is_told_by_the_names_alone() -> None:
    images, truth, named = images_of(950, 1.0)
    named[truth == 5] = 2
    (found,) = find_confused(images, truth, CLASSES, counted(truth, named))
    assert (found.label, found.other, found.seen) == (5, 2, False)
    assert found.count == np.sum(truth == 5)


def test_images_without_a_label_take_no_part_and_one_class_is_no_confusion() -> None:
    images, truth, _ = images_of(960, 1.0)
    truth[::2] = -1
    assert find_confused(images, truth, CLASSES) == []
    assert find_confused(images, np.zeros(N, np.int64), 1) == []
    assert find_confused(images, np.full(N, -1), CLASSES) == []


def test_classes_are_guessed_from_other_images() -> None:
    images, truth, _ = images_of(970, 1.0)
    noise = np.random.default_rng(1).integers(0, CLASSES, N)
    for labels, least, most in ((truth, 0.98, 1.0), (noise, 0.0, 0.2)):
        guessed = out_of_fold(images.values.astype(np.float32), labels, CLASSES, 0).argmax(axis=1)
        assert least <= np.mean(guessed == labels) <= most


def test_a_few_wrong_labels_are_told_where_classes_are_clear() -> None:
    """Nine of 850: too few to go one way by more than chance among so many pairs, but far from where their class lies."""
    for seed in range(840, 848):
        images, truth, _ = images_of(seed, 0.7)
        few = Vectors(np.arange(850), images.values[:850])
        wrong = np.random.default_rng(seed).permutation(np.flatnonzero(truth[:850] == 0))[:9]
        labels = truth[:850].copy()
        labels[wrong] = 2
        (found,) = find_confused(few, labels, CLASSES)
        assert (found.label, found.other, found.seen) == (2, 0, True)
        assert abs(found.count - 9) <= 1


def test_a_classifier_that_knows_little_tells_nothing() -> None:
    """With six directions of the same images left, classes run into each other, and some take more than they give."""
    told = 0
    for seed in range(860, 880):
        images, truth, _ = images_of(seed, 1.6)
        few = np.random.default_rng(seed).normal(size=(DIMENSION, 5))
        flat = images.values.astype(np.float64) @ few
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        told += bool(find_confused(Vectors(images.rows, flat.astype(np.float16)), truth, CLASSES))
    assert told <= 1


@pytest.mark.parametrize("rows", [10, 12, 24])
def test_few_images_and_images_that_are_all_alike_tell_nothing(rows: int) -> None:
    labels = np.arange(rows) % 2
    for vectors in (np.ones((rows, 4)), np.zeros((rows, 4)), np.eye(rows, 4) + 1):
        assert find_confused(Vectors(np.arange(rows), vectors.astype(np.float16)), labels, 2) == []
