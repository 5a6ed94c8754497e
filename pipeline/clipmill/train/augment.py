"""How pictures are altered in training, so that a model sees more of them than there are.

Pictures are altered before they are prepared: a part is cut out, sides are exchanged, colours are shifted.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clipmill.core.errors import UserError

Augment = Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
"""A picture, uint8 (3, height, width), and its captions, to the altered picture."""

KINDS = ("crop", "flip", "colour")
_LEAST_AREA = 0.5
_MOST_STRETCH = 4 / 3
_COLOUR = 0.3
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Augmentation:
    """What is altered. A picture whose captions speak of left or right is not flipped: they would be false."""

    crop: bool = False
    flip: bool = False
    colour: bool = False

    @staticmethod
    def of(kinds: Sequence[str]) -> "Augmentation":
        """From the names of what is altered. Raises UserError for a name that is not one."""
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise UserError(f"--augment {unknown[0]}: choose from {', '.join(KINDS)}")
        return Augmentation(**dict.fromkeys(kinds, True))

    def drawn(self, random: np.random.Generator) -> Augment | None:
        """The alteration that these random numbers decide; None where nothing is altered."""
        if not (self.crop or self.flip or self.colour):
            return None
        area, stretch, down, across, flip, *colour = random.random(8)

        def alter(picture: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
            if self.crop:
                picture = _cropped(picture, area, stretch, down, across)
            if self.flip and flip < 0.5 and not any(_SIDES.search(text) for text in captions):
                picture = picture.flip(-1)
            return _coloured(picture, *colour) if self.colour else picture

        return alter


NOTHING = Augmentation()
"""Pictures as they are."""


def _cropped(picture: torch.Tensor, area: float, stretch: float, down: float, across: float) -> torch.Tensor:
    """A part of at least half the area and nearly the same shape. All numbers are shares from 0 to 1."""
    height, width = picture.shape[-2:]
    share = _LEAST_AREA + (1 - _LEAST_AREA) * area
    ratio = _MOST_STRETCH ** (stretch - 0.5)
    tall = max(1, min(height, round(height * (share / ratio) ** 0.5)))
    wide = max(1, min(width, round(width * (share * ratio) ** 0.5)))
    top, left = round((height - tall) * down), round((width - wide) * across)
    return picture[..., top : top + tall, left : left + wide]


def _coloured(picture: torch.Tensor, brightness: float, contrast: float, saturation: float) -> torch.Tensor:
    """Brightness, contrast and saturation changed by up to 30% each; all numbers are shares from 0 to 1."""
    import torchvision.transforms.v2.functional as F

    for change, amount in zip(
        (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation), (brightness, contrast, saturation), strict=True
    ):
        picture = change(picture, 1 + _COLOUR * (2 * amount - 1))
    return picture
