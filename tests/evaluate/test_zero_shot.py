"""Zero-shot accuracy is the papers': prompts averaged on the sphere, the nearest class wins."""

import hashlib

import numpy as np
import pytest
from captioned import unit

from pipeline.evaluate.zero_shot import ZeroShot, class_vectors, classify


def encode(texts: list[str]) -> np.ndarray:
    """A text encoder that gives each text a vector of its own, and not of unit length."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
    return np.array([np.random.default_rng(seed).standard_normal(8) * (1 + seed % 5) for seed in seeds], np.float32)


def result(images: np.ndarray, labels: list[int], prompts: np.ndarray, names: list[str]) -> ZeroShot:
    half = len(images) // 2
    numbers = np.array(labels)
    batches = [(images[:half], numbers[:half]), (images[half:], numbers[half:])]
    return classify(batches, names, prompts, samples=200)


def test_templates_are_normalised_averaged_and_normalised_again() -> None:
    templates = ("a photo of a {}.", "{} in the snow, a {}")
    vectors = class_vectors(encode, ["red_fox", "owl"], templates)
    for vector, name in zip(vectors, ["red fox", "owl"], strict=True):
        each = encode([f"a photo of a {name}.", f"{name} in the snow, a {name}"])
        mean = (each / np.linalg.norm(each, axis=1, keepdims=True)).mean(axis=0)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_accuracy_is_that_of_sorting_all_scores() -> None:
    random = np.random.default_rng(0)
    prompts = unit(random.standard_normal((9, 16))).astype(np.float32)
    labels = np.sort(random.integers(9, size=300) * random.integers(2, size=300))
    labels[:9] = range(9)
    images = unit(prompts[labels] + random.standard_normal((300, 16)) * 0.45)
    found = result(images, labels.tolist(), prompts, list("abcdefghi"))
    order = np.argsort(-(images.astype(np.float64) @ prompts.T.astype(np.float64)), axis=1)
    right1, right5 = order[:, 0] == labels, (order[:, :5] == labels[:, None]).any(axis=1)
    assert 0.2 < right1.mean() < 0.95
    assert found.acc1 == pytest.approx(right1.mean())
    assert found.acc5 == pytest.approx(right5.mean())
    recalls = [right1[labels == label].mean() for label in np.unique(labels)]
    assert found.mean_per_class_recall == pytest.approx(np.mean(recalls))
    for name in ("acc1", "acc5", "mean_per_class_recall"):
        interval = found.intervals[name]
        assert interval.low < interval.value < interval.high
        assert interval.value == pytest.approx(getattr(found, name))


def test_images_without_a_label_are_left_out_and_counted() -> None:
    prompts = np.eye(3, dtype=np.float32)
    images = np.eye(3, dtype=np.float16)[[0, 1, 2, 0]]
    found = result(images, [0, 1, -1, 2], prompts, ["a", "b", "c"])
    assert (found.images, found.unlabelled, found.acc1) == (3, 1, pytest.approx(2 / 3))
    assert found.support.tolist() == [1, 1, 1]
    assert found.confusions == (("c", "a", 1),)
    assert found.acc5 is None


def test_classes_that_cannot_be_told_apart_share_their_hits() -> None:
    prompts = np.repeat(unit(np.ones((1, 4))), 8, axis=0).astype(np.float32)
    images = np.repeat(unit(np.ones((1, 4))), 16, axis=0)
    found = result(images, [*range(8), *range(8)], prompts, list("abcdefgh"))
    assert found.acc1 == pytest.approx(1 / 8)
    assert found.acc5 == pytest.approx(5 / 8)
