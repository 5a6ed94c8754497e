"""The contrastive loss is the paper's, and bad captions are found."""

import numpy as np
import pytest

from captioned import pairs, unit
from clipmill.evaluation.retrieval.alignment import align, info_nce, match_probabilities
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.vectors import Vectors

IMAGES = np.array([(0.577, 0.577, 0.577), (0.816, 0.408, 0.408), (0, 0.707, 0.707)], np.float32)
TEXTS = np.array([(0.577, 0.577, 0.577), (0.707, 0.707, 0), (0, 0.707, 0.707)], np.float32)


def test_the_worked_example_gives_its_probability() -> None:
    probabilities = match_probabilities(IMAGES @ TEXTS.T, 0.07)
    assert probabilities[0, 0] == pytest.approx(0.87, abs=0.005)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1, 1])


def test_the_loss_is_the_mean_cross_entropy_of_both_directions() -> None:
    images, texts, _ = pairs(50, 1)
    logits = images.astype(np.float64) @ texts.astype(np.float64).T / 0.2
    both = []
    for matrix in (logits, logits.T):
        both += [np.log(np.exp(row).sum()) - row[number] for number, row in enumerate(matrix)]
    found = info_nce(images.astype(np.float32), texts.astype(np.float32), 0.2)
    assert found.loss == pytest.approx(np.mean(both), abs=1e-5)
    assert found.pairs == 50


def test_a_cold_temperature_does_not_overflow() -> None:
    assert np.isfinite(info_nce(IMAGES, TEXTS[::-1], 1e-4).loss)


def test_captions_of_another_image_are_found_as_the_worst_pairs() -> None:
    images, captions, rows = pairs(60, 3, noise=0.3)
    wrong = [5, 77, 140]
    captions[wrong] = unit(-images[rows[wrong]].astype(np.float64))
    image_side, caption_side = Vectors(np.arange(60), images), Vectors(rows, captions)
    found = align(caption_side, image_side, rank_positives(caption_side, image_side), temperature=0.01, worst=3)
    assert sorted(found.worst.tolist()) == wrong
    assert np.array_equal(found.worst_images, rows[found.worst])
    assert found.worst_scores == pytest.approx(-1, abs=0.01)
    expected = np.einsum("ij,ij->i", captions.astype(np.float64), images[rows].astype(np.float64))
    assert found.matched.mean == pytest.approx(expected.mean())
    assert (found.matched.n, sum(found.matched.counts)) == (180, 180)
    assert sum(found.unmatched.counts) == found.unmatched.n > 0
    assert abs(found.unmatched.mean) < 0.1
    assert [loss.temperature for loss in found.losses] == [0.01, 0.07]
    assert {loss.pairs for loss in found.losses} == {60}


def test_a_single_pair_has_no_unmatched_ones() -> None:
    images, captions, rows = pairs(1, 1)
    image_side, caption_side = Vectors(rows, images), Vectors(rows, captions)
    found = align(caption_side, image_side, rank_positives(caption_side, image_side), temperature=None)
    assert (found.matched.n, found.unmatched.n) == (1, 0)
