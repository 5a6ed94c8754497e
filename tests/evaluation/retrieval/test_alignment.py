"""The contrastive loss is the paper's, and bad captions are found."""

import numpy as np
import pytest
from scipy import stats

from captioned import pairs, unit
from clipmill.evaluation.retrieval.alignment import align
from clipmill.evaluation.retrieval.contrastive import Loss, info_nce, match_probabilities, sigmoid_loss
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
    assert found.loss.value == pytest.approx(np.mean(both), abs=1e-5)
    assert found.pairs == 50


@pytest.mark.parametrize("bias", [None, -10.0])
def test_intervals_are_those_of_leaving_out_each_pair_in_turn(bias: float | None) -> None:
    images, texts, _ = pairs(40, 1, noise=3.0)
    sides = images.astype(np.float32), texts.astype(np.float32)

    def measure(*batch: np.ndarray) -> Loss:
        return info_nce(*batch, 0.1) if bias is None else sigmoid_loss(*batch, 0.1, bias)

    found = measure(*sides)
    without = [measure(*(np.delete(side, pair, axis=0) for side in sides)) for pair in range(40)]
    for name in ("loss", "match_probability"):
        values = [getattr(one, name).value for one in without]
        deviation = np.sqrt(39 / 40 * np.sum((np.array(values) - np.mean(values)) ** 2))
        interval = getattr(found, name)
        assert interval.high - interval.low == pytest.approx(2 * stats.t.ppf(0.975, 39) * deviation, rel=1e-3)
        assert interval.high - interval.value == pytest.approx(interval.value - interval.low)


def test_the_interval_of_the_loss_covers_what_other_pairs_give() -> None:
    random = np.random.default_rng(0)
    draws = [pairs(100, 1, noise=2.0, seed=int(seed))[:2] for seed in random.integers(1 << 30, size=200)]
    found = [info_nce(images.astype(np.float32), texts.astype(np.float32), 0.2).loss for images, texts in draws]
    truth = np.mean([interval.value for interval in found])
    assert 0.9 <= np.mean([interval.low <= truth <= interval.high for interval in found]) <= 0.99


def test_the_sigmoid_loss_is_that_of_siglips_own_few_lines() -> None:
    images, texts, _ = pairs(30, 1)
    scale, bias = 20.0, -5.0
    logits = scale * images.astype(np.float64) @ texts.astype(np.float64).T + bias
    labels = 2 * np.eye(30) - 1
    expected = -np.sum(np.log(1 / (1 + np.exp(-labels * logits)))) / 30
    found = sigmoid_loss(images.astype(np.float32), texts.astype(np.float32), 1 / scale, bias)
    assert found.loss.value == pytest.approx(expected, rel=1e-5)
    assert found.match_probability.value == pytest.approx(np.mean(1 / (1 + np.exp(-np.diagonal(logits)))), rel=1e-5)
    keys = [figure.key for figure in found.figures]
    assert keys == ["alignment.sigmoid_loss", "alignment.sigmoid_match_probability"]
    assert "logit scale 20 and bias -5" in found.figures[0].definition


def test_a_model_of_sigmoids_is_measured_by_its_own_loss() -> None:
    images, captions, rows = pairs(20, 2)
    sides = Vectors(rows, captions), Vectors(np.arange(20), images)
    found = align(*sides, rank_positives(*sides), temperature=0.05, bias=-3.0)
    assert [(loss.temperature, loss.bias) for loss in found.losses] == [(0.05, -3.0), (0.07, None)]


def test_a_cold_temperature_does_not_overflow() -> None:
    assert np.isfinite(info_nce(IMAGES, TEXTS[::-1], 1e-4).loss.value)


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
