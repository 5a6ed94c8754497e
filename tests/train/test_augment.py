"""Pictures are altered as the random numbers say, and never so that their captions become false."""

import numpy as np
import pytest
import torch

from clipmill.core.errors import UserError
from clipmill.train.augment import Augmentation

PICTURE = torch.arange(3 * 40 * 60, dtype=torch.int64).remainder(251).to(torch.uint8).view(3, 40, 60)


def altered(kinds: tuple[str, ...], seed: int, captions: tuple[str, ...] = ("a dog",)) -> torch.Tensor:
    alter = Augmentation.of(kinds).drawn(np.random.default_rng(seed))
    assert alter is not None
    return alter(PICTURE, captions)


def test_a_part_is_cut_out_of_at_least_half_the_area() -> None:
    for seed in range(50):
        found = altered(("crop",), seed)
        assert found.shape[0] == 3
        assert 0.45 < found.shape[1] * found.shape[2] / (40 * 60) <= 1
        rows, columns = found.shape[1:]
        places = [
            (top, left)
            for top in range(41 - rows)
            for left in range(61 - columns)
            if torch.equal(PICTURE[:, top : top + rows, left : left + columns], found)
        ]
        assert places


def test_half_of_the_pictures_are_flipped_unless_a_caption_speaks_of_sides() -> None:
    flipped = [torch.equal(altered(("flip",), seed), PICTURE.flip(-1)) for seed in range(100)]
    assert 30 < sum(flipped) < 70
    for caption in ("a cup on the Left", "turn right", "left-handed"):
        assert all(torch.equal(altered(("flip",), seed, ("a cup", caption)), PICTURE) for seed in range(20))
    assert any(not torch.equal(altered(("flip",), seed, ("bright lefts",)), PICTURE) for seed in range(20))


def test_colours_change_and_the_shape_does_not() -> None:
    found = altered(("colour",), 3)
    assert (found.shape, found.dtype) == (PICTURE.shape, torch.uint8)
    assert not torch.equal(found, PICTURE)


def test_the_same_numbers_alter_alike() -> None:
    kinds = ("crop", "flip", "colour")
    assert torch.equal(altered(kinds, 4), altered(kinds, 4))
    assert Augmentation.of(()).drawn(np.random.default_rng(0)) is None


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(UserError, match="--augment blur: choose from crop, flip, colour"):
        Augmentation.of(("crop", "blur"))
