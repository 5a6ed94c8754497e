"""Zero-shot accuracy is the papers': prompts averaged on the sphere, the nearest class wins."""

import hashlib

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from captioned import unit
from clipmill.evaluation.classification.calibration import BINS
from clipmill.evaluation.classification.zero_shot import ZeroShot, class_vectors, classify, ensemble, template_vectors


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


def noisy(random: np.random.Generator, images: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompt vectors, class numbers of which the last class has none, and images near their class."""
    prompts = unit(random.standard_normal((classes, 16))).astype(np.float32)
    labels = np.r_[np.arange(classes - 1), random.integers(classes - 1, size=images - classes + 1) // 2]
    return prompts, labels, unit(prompts[labels] + random.standard_normal((images, 16)) * 0.4)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_figures_are_those_of_clip_benchmark_and_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    oracle = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    prompts, labels, images = noisy(np.random.default_rng(3), 400, 12)
    found = result(images, labels.tolist(), prompts, [f"c{number}" for number in range(12)])
    logits = images.astype(np.float64) @ prompts.T.astype(np.float64)
    monkeypatch.setattr(oracle, "float", lambda value: value.item(), raising=False)  # numpy ≥ 2.4 refuses arrays of one
    acc1, acc5 = oracle.accuracy(torch.from_numpy(logits), torch.from_numpy(labels), topk=(1, 5))
    assert found.acc1 == pytest.approx(acc1, abs=1e-6)
    assert found.acc5 == pytest.approx(acc5, abs=1e-6)
    recall = balanced_accuracy_score(labels, logits.argmax(axis=1))
    assert found.mean_per_class_recall == pytest.approx(recall, abs=1e-6)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_mean_per_class_recall_is_scikit_learns_balanced_accuracy_also_with_a_class_of_no_images() -> None:
    prompts, labels, images = noisy(np.random.default_rng(1), 300, 8)
    found = result(images, labels.tolist(), prompts, list("abcdefgh"))
    given = (images.astype(np.float64) @ prompts.T.astype(np.float64)).argmax(axis=1)
    assert found.support[-1] == 0
    assert found.mean_per_class_recall == pytest.approx(balanced_accuracy_score(labels, given), abs=1e-9)
    assert found.intervals["mean_per_class_recall"].low < found.mean_per_class_recall


def test_calibration_is_that_of_the_softmax_at_the_models_temperature() -> None:
    prompts, labels, images = noisy(np.random.default_rng(2), 500, 6)
    found = classify([(images, labels)], list("abcdef"), prompts, samples=200, logit_scale=7.0)
    logits = 7.0 * images.astype(np.float64) @ prompts.T.astype(np.float64)
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure, right = odds.max(axis=1), odds.argmax(axis=1) == labels
    error = 0.0
    for number in range(BINS):
        here = (sure > number / BINS) & (sure <= (number + 1) / BINS)
        if here.any():
            error += here.mean() * abs(right[here].mean() - sure[here].mean())
    assert found.calibration is not None
    assert found.calibration.error == pytest.approx(error, abs=1e-9)
    assert found.calibration.mean_confidence == pytest.approx(sure.mean())
    assert found.calibration.counts.sum() == 500


def test_each_template_alone_is_as_if_it_were_the_only_one() -> None:
    templates = ("a photo of a {}.", "{} in the snow", "a drawing of {}")
    names, random = ["fox", "owl", "cat"], np.random.default_rng(0)
    each = template_vectors(encode, names, templates)
    labels = random.integers(3, size=90)
    images = unit(ensemble(each)[labels] + random.standard_normal((90, 8)) * 0.5)
    found = classify(
        [(images[:40], labels[:40]), (images[40:], labels[40:])], names, ensemble(each), 200, by_template=each
    )
    assert found.templates is not None
    assert found.templates.together.value == pytest.approx(found.acc1)
    accuracies = []
    for template, alone, difference in zip(templates, found.templates.alone, found.templates.differences, strict=True):
        only = classify([(images, labels)], names, class_vectors(encode, names, (template,)), 0)
        accuracies.append(only.acc1)
        assert alone.value == pytest.approx(only.acc1)
        assert difference.value == pytest.approx(only.acc1 - found.acc1)
        assert difference.low <= difference.value <= difference.high
    assert len(set(accuracies)) > 1
    assert found.templates.mean == pytest.approx(np.mean(accuracies))


def test_templates_may_be_compared_on_a_share_of_the_images() -> None:
    prompts, labels, images = noisy(np.random.default_rng(2), 1000, 6)
    by_template = np.stack([prompts, prompts[:, ::-1]], axis=1)
    found = classify(
        [(images, labels)], list("abcdef"), prompts, 50, by_template=by_template, template_share=0.2
    ).templates
    assert found is not None
    assert 120 < found.together.n < 280
