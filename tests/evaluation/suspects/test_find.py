"""What a worse slice explains is not told a second time; what is wrong elsewhere too is."""

import numpy as np
import pytest

from captioned import unit
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.suspects.find import find_suspects
from clipmill.evaluation.vectors import Vectors

N, DIMENSION = 1500, 48
SLICE = np.arange(N) >= N - 200


def planted(seed: int, *, blurred: bool = False, swapped: int = 0, copies: int = 0) -> tuple[Vectors, Ranks]:
    """Images with a caption each: 200 of which the model makes next to nothing, all alike, and faults among the others."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(N, DIMENSION))
    images[100 : 100 + copies] = images[:copies]
    captions = images / np.linalg.norm(images, axis=1, keepdims=True) + rng.normal(0, 0.06, (N, DIMENSION))
    if blurred:
        images[SLICE] = rng.normal(size=DIMENSION) + 0.02 * rng.normal(size=(200, DIMENSION))
    moved = rng.permutation(N - 200)[:swapped]
    captions[moved] = captions[np.roll(moved, 1)]
    rows = np.arange(N)
    pictures = Vectors(rows, unit(images))
    return pictures, rank_positives(Vectors(rows, unit(captions)), pictures)


def test_a_blurred_slice_is_not_told_as_copies_and_captions_of_others_too() -> None:
    images, ranks = planted(0, blurred=True)
    told = find_suspects(images, ranks, None, None, 0)
    assert told.swapped is not None
    assert told.copies is not None
    once = find_suspects(images, ranks, None, None, 0, SLICE)
    assert once.swapped is None
    assert once.copies is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_wrong_outside_of_the_slice_is_told_with_it(seed: int) -> None:
    images, ranks = planted(seed, swapped=60, copies=40)
    told = find_suspects(images, ranks, None, None, 0, SLICE)
    assert told.swapped is not None
    assert told.swapped.count == pytest.approx(60, rel=0.1)
    assert told.copies is not None
    assert told.copies.count == 40


def test_ranks_of_some_queries_are_those_that_all_have() -> None:
    images, _ = planted(4)
    captions = Vectors(np.repeat(images.rows, 2), np.repeat(images.values, 2, axis=0))
    ranks = rank_positives(captions, images)
    chosen = np.random.default_rng(0).random(len(ranks)) < 0.3
    some = ranks.take(chosen)
    np.testing.assert_array_equal(some.rows, ranks.rows[chosen])
    np.testing.assert_array_equal(some.expected_rank(), ranks.expected_rank()[chosen])
    np.testing.assert_array_equal(some.hits(5), ranks.hits(5)[chosen])
    assert some.gallery == ranks.gallery
