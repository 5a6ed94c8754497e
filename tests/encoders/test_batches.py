"""A device that runs out of memory gets smaller batches, and the vectors are the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmill.core.settings import ModelSettings
from clipmill.encoders.batches import WHOLE, Batches, fastest_size
from clipmill.encoders.model import ClipModel, load_model


def let_fit(model: ClipModel, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the model a device on which so many pictures fit."""
    encode_image = model.network.encode_image

    def small(batch: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        if len(batch) > most:
            raise torch.OutOfMemoryError("too large")
        return encode_image(batch, normalize=normalize)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(model.network, "encode_image", small)


def test_batches_are_halved_until_they_fit_and_nothing_is_left_out() -> None:
    done: list[int] = []
    tried: list[int] = []

    def work(part: slice) -> None:
        tried.append(part.stop - part.start)
        if part.stop - part.start > 5:
            raise torch.OutOfMemoryError("too large")
        done.extend(range(part.start, part.stop))

    batches = Batches(32)
    batches.run(41, work)
    assert done == list(range(41))
    assert tried[:3] == [21, 9, 4], "two even ones of at most 32; then halves of what did not fit"
    assert max(tried[2:]) == 4
    assert batches.size == 4, "the next batches are of the size that fits"


def test_batches_are_of_even_sizes() -> None:
    sizes: list[int] = []
    Batches(256).run(445, lambda part: sizes.append(part.stop - part.start))
    assert sizes == [223, 222]


@pytest.mark.parametrize("seed", range(30))
def test_batches_of_texts_take_no_more_than_whole_ones_would(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs, size = np.sort(random.integers(1, 1500, seed)), int(random.integers(1, 10))
    parts: list[slice] = []
    Batches(size).run(len(costs), parts.append, costs)
    assert [at for part in parts for at in range(part.start, part.stop)] == list(range(len(costs)))
    for part in parts:
        held = part.stop - part.start
        assert held == 1 or held * costs[part.stop - 1] <= size * WHOLE
        if part.stop < len(costs):
            assert (held + 1) * costs[part.stop] > size * WHOLE, "one more would not have fitted"


def test_a_batch_of_many_short_texts_that_does_not_fit_halves_the_size() -> None:
    sizes: list[int] = []

    def work(part: slice) -> None:
        sizes.append(part.stop - part.start)
        if part.stop - part.start > 100:
            raise torch.OutOfMemoryError("too large")

    batches = Batches(32)
    batches.run(160, work, np.full(160, WHOLE // 5))
    assert sizes == [160, 80, 80]
    assert batches.size == 16


def test_one_item_that_does_not_fit_is_an_error() -> None:
    def work(part: slice) -> None:
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        Batches(8).run(8, work)


def test_a_model_survives_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(load_model(ModelSettings(), device="cpu"), batch_size=16)
    pixels = np.random.default_rng(0).integers(0, 256, (21, 3, *model.preprocessing.size), np.uint8)
    texts = [f"{number} cats" for number in range(21)]
    images, captions = model.encode_images(pixels), model.encode_texts(texts)
    short = replace(model)
    let_fit(model, 3, monkeypatch)
    np.testing.assert_allclose(short.encode_images(pixels), images, atol=1e-6)
    assert short.batches.size == 2
    np.testing.assert_allclose(short.encode_texts(texts), captions, atol=1e-6)


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ({8: 1.0, 16: 1.2, 32: 2.0, 64: 3.95, 128: 7.0}, 32),  # 8, 13, 16, 16.2 a second: 64 is not worth it
        ({8: 1.0, 16: 1.0, 32: 1.0}, 32),  # 64 does not fit
        ({8: 1.0, 16: 1.0, 32: 1.0, 64: 1.0, 128: 1.0, 256: 1.0}, 128),  # the most that is allowed
        ({}, 8),  # not even the first fits: it is left to halving
    ],
)
def test_batches_double_while_they_get_faster_and_fit(seconds: dict[int, float], found: int) -> None:
    def measure(size: int) -> float:
        if size not in seconds:
            raise torch.OutOfMemoryError("too large")
        return seconds[size]

    assert fastest_size(measure, 8, 128) == found


def test_a_model_finds_a_size_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(load_model(ModelSettings(), device="cpu"), batch_size=3)
    let_fit(model, 5, monkeypatch)
    model.find_batch_size()
    assert model.batches.size == 3
