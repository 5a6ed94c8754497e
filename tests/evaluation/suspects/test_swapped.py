"""Captions of other pictures are counted within a tenth, on seeds and rates that nothing was tuned on; none where none is."""

import numpy as np
import pytest
from scipy.stats import norm

from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.suspects.swapped import find_swapped, uniform_share
from clipmill.evaluation.vectors import Vectors
from clustered import image_and_caption_vectors

GALLERY = 4000


def places(seed: int, rate: float, distance: float, spread: float = 1.0) -> tuple[np.ndarray, int]:
    """Places of captions' own pictures where a model tells them apart by so many standard deviations; some are of others."""
    rng = np.random.default_rng(seed)
    scores, count = rng.normal(distance, spread, GALLERY), round(rate * GALLERY)
    scores[:count] = rng.normal(0, 1, count)
    return np.floor(norm.sf(scores) * GALLERY) / GALLERY, count


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.035, 0.05, 0.08, 0.1])
def test_their_number_is_told_within_a_tenth(rate: float) -> None:
    told = [
        (uniform_share(place, GALLERY) * GALLERY, count)
        for place, count in (places(s, rate, 5.0) for s in range(40, 52))
    ]
    assert all(found > 0 for found, _ in told)
    close = [abs(found - count) <= max(1.5, 0.1 * count) for found, count in told]
    assert np.mean(close) >= 0.8
    assert np.mean([found for found, _ in told]) == pytest.approx(rate * GALLERY, rel=0.05)


@pytest.mark.parametrize(("distance", "spread"), [(5.0, 1.0), (3.5, 1.0), (3.0, 1.3), (2.2, 1.0), (0.0, 1.0)])
def test_hard_captions_and_weak_models_are_no_such_captions(distance: float, spread: float) -> None:
    told = [uniform_share(places(seed, 0.0, distance, spread)[0], GALLERY) for seed in range(100, 120)]
    assert sum(share > 0 for share in told) <= 1


def test_of_vectors_the_worst_pairs_are_those_that_were_exchanged() -> None:
    images, captions = image_and_caption_vectors(1500, 1500, 64, seed=77)
    moved = np.random.default_rng(5).permutation(1500)[:60]
    spoken = images.copy()  # captions that lie where their pictures do, with some noise
    noise = np.random.default_rng(6).normal(0, 0.06, spoken.shape)
    spoken = (spoken + noise).astype(np.float32)
    spoken /= np.linalg.norm(spoken, axis=1, keepdims=True)
    spoken[moved] = spoken[np.roll(moved, 1)]
    rows = np.arange(1500)
    ranks = rank_positives(Vectors(rows, spoken.astype(np.float16)), Vectors(rows, images), rows)
    found = find_swapped(ranks)
    assert found is not None
    assert found.count == pytest.approx(60, abs=6)
    below = set(np.flatnonzero(ranks.score < found.below).tolist())
    assert len(below & set(moved.tolist())) >= 0.8 * len(below)
    assert captions.shape == images.shape


def test_a_small_gallery_tells_nothing() -> None:
    images, _ = image_and_caption_vectors(50, 50, 16, seed=1)
    rows = np.arange(50)
    assert find_swapped(rank_positives(Vectors(rows, np.roll(images, 1, axis=0)), Vectors(rows, images), rows)) is None


@pytest.mark.parametrize("rate", [0.03, 0.08])
def test_of_a_sample_drawn_at_several_rates_it_is_told_what_they_come_to_in_all(rate: float) -> None:
    held = 0
    for seed in range(10):
        place, count = places(seed, rate, 5.0)
        rng = np.random.default_rng(seed)
        swapped = np.arange(GALLERY) < count
        often = swapped & (rng.random(GALLERY) < 0.5)  # a slice of captions that are all wrong, of which all were drawn
        chosen = np.flatnonzero(often | (rng.random(GALLERY) < 0.5))
        weights = np.where(often[chosen], 1.0, np.sum(~often) / np.sum(~often[chosen]))
        nothing, one = np.zeros(len(chosen), np.int64), np.ones(len(chosen), np.int64)
        higher = np.round(place[chosen] * (GALLERY - 1)).astype(np.int64)
        ranks = Ranks(chosen, chosen, -place[chosen], nothing, one, higher, one, one, GALLERY, weights, GALLERY)
        found = find_swapped(ranks)
        assert found is not None
        assert found.in_all is not None
        assert found.captions == len(chosen)
        assert found.in_all.captions == GALLERY
        assert found.in_all.low <= found.count / found.captions * GALLERY <= found.in_all.high
        held += found.in_all.low <= count <= found.in_all.high
    assert held >= 8
