"""The COCO protocols are means over folds of recall in each."""

import numpy as np
import pytest

from captioned import pairs
from clipmill.evaluation.retrieval import folds
from clipmill.evaluation.retrieval.folds import coco_protocols
from clipmill.evaluation.vectors import Vectors


@pytest.fixture(autouse=True)
def small_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "FOLD_IMAGES", 20)


def recall(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    order = np.argsort(-scores, axis=1)[:, :k]
    return float(np.take_along_axis(right, order, axis=1).any(axis=1).mean())


def test_recall_is_the_mean_of_five_consecutive_folds_and_that_of_all() -> None:
    images, captions, rows = pairs(100, 3, noise=4.0)
    parts = coco_protocols(Vectors(np.arange(100), images), Vectors(rows, captions))
    assert [(part.name, part.direction) for part in parts] == [
        ("1k", "t2i"),
        ("1k", "i2t"),
        ("5k", "t2i"),
        ("5k", "i2t"),
    ]
    one, all_ = parts[0], parts[2]
    figures = {figure.key: figure for part in parts for figure in part.figures}
    scores = captions.astype(np.float64) @ images.astype(np.float64).T
    right = rows[:, None] == np.arange(100)
    assert (one.name, one.folds, one.images, one.captions) == ("1k", 5, 20, 300)
    assert (all_.name, all_.folds, all_.images, all_.captions) == ("5k", 1, 100, 300)
    for k in (1, 5, 10):
        parts = [(slice(60 * i, 60 * i + 60), slice(20 * i, 20 * i + 20)) for i in range(5)]
        t2i = np.mean([recall(scores[part], right[part], k) for part in parts])
        i2t = np.mean([recall(scores[part].T, right[part].T, k) for part in parts])
        assert figures[f"t2i.1k_recall@{k}"].value == pytest.approx(t2i)
        assert figures[f"i2t.1k_recall@{k}"].value == pytest.approx(i2t)
        assert figures[f"t2i.5k_recall@{k}"].value == pytest.approx(recall(scores, right, k))
        assert figures[f"t2i.1k_recall@{k}"].low < t2i < figures[f"t2i.1k_recall@{k}"].high


def test_too_few_images_with_captions_have_no_protocol() -> None:
    images, captions, rows = pairs(120, 1)
    assert coco_protocols(Vectors(np.arange(120), images), Vectors(rows[:99], captions[:99])) == []


def test_of_more_images_as_many_are_drawn() -> None:
    images, captions, rows = pairs(150, 2, noise=4.0)
    sides = Vectors(np.arange(150), images), Vectors(rows, captions)
    one = coco_protocols(*sides, seed=1)[0]
    assert (one.images, one.captions) == (20, 200)
    assert coco_protocols(*sides, seed=1)[0] == one
    assert coco_protocols(*sides, seed=2)[0] != one
