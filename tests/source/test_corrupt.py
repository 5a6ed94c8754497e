"""Corruptions do what they say, more of it at each strength, and the same to the same picture every time."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from clipmill.core.errors import UserError
from clipmill.source.corrupt import STRENGTHS, Corruption

SIDE = 128


def picture(height: int = SIDE, width: int = SIDE) -> torch.Tensor:
    """Colourful stripes of several widths with smooth shading: something for every corruption to hurt."""
    y, x = np.mgrid[0:height, 0:width]
    fine = 25 * np.sin((x + y) / 2)
    channels = [128 + 60 * np.sin(x / 30) + fine, 128 + 60 * np.cos(y / 40) + fine, 40 + 150 * y / height]
    return torch.from_numpy(np.stack(channels).astype(np.uint8))


def damage(kind: str, strength: int) -> float:
    """Root mean square difference over some rows, of pictures of the same size."""
    image = picture()
    found = [Corruption(kind, strength).apply(image, row, SIDE) for row in range(8)]
    made = [torch.nn.functional.interpolate(one[None].float(), (SIDE, SIDE))[0] for one in found]
    return float(np.sqrt(np.mean([((one - image.float()) ** 2).mean() for one in made])))


@pytest.mark.parametrize("kind", STRENGTHS)
def test_every_strength_does_more_damage_than_the_one_before(kind: str) -> None:
    damages = [damage(kind, strength) for strength in range(1, 6)]
    assert damages[0] > 0.5
    assert all(np.diff(damages) > 0)


@pytest.mark.parametrize("kind", STRENGTHS)
def test_a_picture_is_changed_alike_each_time_and_left_as_it_was(kind: str) -> None:
    image, before = picture(), picture()
    once, again = (Corruption(kind, 3).apply(image, 7 << 32, SIDE) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(image, before)
    assert (once.dtype, once.shape[0]) == (torch.uint8, 3)


@pytest.mark.parametrize("kind", ["noise", "crop", "rotation"])
def test_chance_follows_from_row_and_seed(kind: str) -> None:
    image = picture()
    by_row = {Corruption(kind, 3).apply(image, row, SIDE).contiguous().numpy().tobytes() for row in range(16)}
    by_seed = {Corruption(kind, 3, seed).apply(image, 1, SIDE).contiguous().numpy().tobytes() for seed in range(16)}
    assert len(by_row) > 1
    assert len(by_seed) > 1


@pytest.mark.parametrize("kind", STRENGTHS)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (200, 300)])
def test_pictures_of_every_size_survive(kind: str, size: tuple[int, int]) -> None:
    changed = Corruption(kind, 5).apply(picture(*size), 0, 32)
    assert min(changed.shape[-2:]) in range(1, 33)
    assert changed.shape[-2] * changed.shape[-1] <= 16 * 32 * 32


def test_blur_is_a_gaussian_one() -> None:
    rough = (picture().float() * torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    deviation = STRENGTHS["blur"][4] * SIDE
    expected = Image.fromarray(rough.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(deviation))
    found = Corruption("blur", 5).apply(rough, 0, SIDE).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - np.asarray(expected).astype(int))[12:-12, 12:-12].mean() < 1.5


def test_noise_brightness_and_greyscale_are_what_their_numbers_say() -> None:
    grey = torch.full((3, 256, 256), 128, dtype=torch.uint8)
    assert Corruption("noise", 1).apply(grey, 0, 256).float().std() == pytest.approx(0.05 * 255, rel=0.02)
    assert torch.equal(Corruption("brightness", 2).apply(grey, 0, 256).unique(), torch.tensor([179], dtype=torch.uint8))
    colourless = Corruption("greyscale", 5).apply(picture(), 0, SIDE).float()
    assert float((colourless.max(0).values - colourless.min(0).values).max()) <= 1


def test_a_crop_is_a_part_of_the_picture() -> None:
    image = picture()
    part = Corruption("crop", 5).apply(image, 3, SIDE)
    assert part.shape == (3, 64, 64)
    places = [(top, left) for top in range(65) for left in range(65)]
    assert sum(torch.equal(part, image[:, top : top + 64, left : left + 64]) for top, left in places) == 1


def test_jpeg_is_saved_at_the_size_that_the_model_looks_at() -> None:
    image = picture(128, 128)
    stream = io.BytesIO()
    small = Corruption("jpeg", 3).apply(image, 0, 32)
    assert small.shape == (3, 32, 32)
    plain = Corruption("crop", 1).apply(image, 0, 32)
    assert plain.shape == (3, 29, 29)
    Image.fromarray(picture(32, 32).permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=15)
    expected = np.array(Image.open(io.BytesIO(stream.getvalue())))
    assert np.array_equal(Corruption("jpeg", 3).apply(picture(32, 32), 0, 32).permute(1, 2, 0).numpy(), expected)


def test_what_is_written_is_read_back() -> None:
    for text in ("blur:1", "noise:5:7"):
        assert str(Corruption.parse(text)) == text
    assert Corruption.parse("jpeg:2:0") == Corruption("jpeg", 2)


@pytest.mark.parametrize(
    "text", ["", "blur", "blur:", "blur:0", "blur:6", "blur:x", "fog:1", "blur:1:2:3", "blur:-1", "blur:²"]
)
def test_what_is_not_known_is_refused_with_the_kinds_there_are(text: str) -> None:
    with pytest.raises(UserError, match=r"blur, noise, jpeg, brightness, crop, rotation, greyscale"):
        Corruption.parse(text)
