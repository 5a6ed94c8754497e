"""Recall is the field's: any positive among the first K, each caption and each image a query."""

from pathlib import Path

import numpy as np
import pytest

from captioned import pairs
from clipmill.evaluation.retrieval.retrieval import Retrieval, retrieve
from clipmill.evaluation.vectors import Vectors

FASHION = Path(__file__).parents[3] / "../shared/data/fashion_clip_pairs"


def measured(direction: str, queries: Vectors, gallery: Vectors) -> Retrieval:
    found = retrieve(direction, queries, gallery, samples=50)
    assert found is not None
    return found[0]


@pytest.mark.skipif(not FASHION.exists(), reason="the real vectors are not at hand")
def test_recall_of_real_pairs_is_the_known_one_to_four_digits() -> None:
    images = np.load(FASHION / "image_embeddings.npy").astype(np.float16)
    texts = np.load(FASHION / "text_embeddings.npy").astype(np.float16)
    rows = np.arange(len(images))
    t2i = measured("t2i", Vectors(rows, texts), Vectors(rows, images))
    i2t = measured("i2t", Vectors(rows, images), Vectors(rows, texts))
    assert [round(t2i.recall(k), 4) for k in (1, 5, 10)] == [0.8046, 0.9698, 0.9920]
    assert [round(i2t.recall(k), 4) for k in (1, 5, 10)] == [0.7948, 0.9760, 0.9964]


def test_recall_with_several_captions_is_that_of_the_full_score_matrix() -> None:
    images, captions, rows = pairs(60, 5, noise=2.5)
    scores = captions.astype(np.float64) @ images.astype(np.float64).T
    positive = rows[:, None] == np.arange(60)
    t2i = measured("t2i", Vectors(rows, captions), Vectors(np.arange(60), images))
    i2t = measured("i2t", Vectors(np.arange(60), images), Vectors(rows, captions))
    for result, matrix, right in ((t2i, scores, positive), (i2t, scores.T, positive.T)):
        order = np.argsort(-matrix, axis=1)
        places = np.take_along_axis(right, order, axis=1).argmax(axis=1) + 1
        assert result.queries == len(matrix)
        for k in (1, 5, 10):
            assert result.recall(k) == pytest.approx(np.mean(places <= k))
        found = {figure.metric: figure.value for figure in result.figures}
        assert [found[f"recall@{k}"] for k in (1, 5, 10)] == [result.recall(k) for k in (1, 5, 10)]
        assert found["median_rank"] == np.median(places)
        assert found["mean_rank"] == pytest.approx(places.mean())
        assert found["mean_reciprocal_rank"] == pytest.approx(np.mean(1 / places))


def test_items_without_a_partner_are_counted_and_compete() -> None:
    images, captions, rows = pairs(30, 2)
    images_side = Vectors(np.arange(30), images)
    half = measured("t2i", Vectors(rows[:30], captions[:30]), images_side)
    assert (half.queries, half.without_positive, half.gallery, half.gallery_only) == (30, 0, 30, 15)
    orphans = measured("t2i", Vectors(rows + 10, captions), images_side)
    assert (orphans.queries, orphans.without_positive, orphans.gallery_only) == (40, 20, 10)


def test_nothing_to_ask_or_nothing_to_find_gives_no_result() -> None:
    images, captions, rows = pairs(4, 1)
    side, empty = Vectors(np.arange(4), images), Vectors(rows[:0], captions[:0])
    assert retrieve("t2i", empty, side) is None
    assert retrieve("t2i", side, empty) is None
    assert retrieve("t2i", Vectors(rows + 100, captions), side) is None
