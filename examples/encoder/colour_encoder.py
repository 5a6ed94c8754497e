"""A joint encoder of pictures and texts in one file: both become how much of each colour is in them."""

import re
from collections.abc import Sequence

import torch

from clipmill.core.errors import UserError
from clipmill.encoders.packaged import PackagedModel
from clipmill.encoders.preprocess import Preprocessing

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 40),
    "black": (20, 20, 20),
    "white": (240, 240, 240),
}
PADDING = len(COLOURS)


class Colours(torch.nn.Module):
    """Weights are the colours themselves; a real encoder would load a checkpoint here."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = torch.nn.Parameter(torch.tensor(list(COLOURS.values())) / 255)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels, float (n, 3, height, width) from 0 to 1, as the share of each colour, (n, d)."""
        flat = pixels.flatten(2).transpose(1, 2)
        nearness = -50 * torch.cdist(flat, self.colours.to(flat.dtype).expand(len(flat), -1, -1)) ** 2
        return nearness.softmax(dim=-1).mean(dim=1) + 1e-3

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids, int64 (n, length), as how often each colour is named, (n, d)."""
        counts = torch.nn.functional.one_hot(tokens, PADDING + 1).sum(dim=1)[:, :PADDING]
        return counts.to(self.colours.dtype) + 1e-3


class ColourWords:
    """Texts as the numbers of the colours that they name, filled up with PADDING."""

    def __call__(self, texts: Sequence[str], length: int = 8) -> torch.Tensor:
        names = list(COLOURS)
        found = [[names.index(word) for word in re.findall(r"\w+", text.lower()) if word in names] for text in texts]
        return torch.tensor([(ids + [PADDING] * length)[:length] for ids in found])


def load(argument: str | None) -> PackagedModel:
    """``--model colours`` or ``--model colours:SIDE``, the side of prepared pictures in pixels."""
    if argument is not None and not argument.isdigit():
        raise UserError(f"--model colours:{argument}: the side of prepared pictures is a number, such as colours:32")
    side = int(argument or 16)
    images = Preprocessing((side, side), (0, 0, 0), (1, 1, 1), interpolation="bilinear", resize_mode="squash")
    return PackagedModel(Colours(), images, ColourWords(), logit_scale=10)
