"""Pictures made worse on purpose, at set strengths: what a model's robustness is measured with.

The kinds are among those of Hendrycks and Dietterich 2019; the strengths are our own. A picture is first shrunk to the
size the model looks at, so that one strength means the same for pictures of all sizes, and so that nothing is lost by
it that the model would have seen.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clipmill.core.errors import UserError

if TYPE_CHECKING:
    import torch

STRENGTHS: dict[str, tuple[float, float, float, float, float]] = {
    "blur": (0.005, 0.01, 0.015, 0.025, 0.04),
    "noise": (0.05, 0.1, 0.15, 0.25, 0.4),
    "jpeg": (40, 25, 15, 10, 5),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "crop": (0.9, 0.8, 0.7, 0.6, 0.5),
    "rotation": (5, 10, 20, 30, 45),
    "greyscale": (0.8, 0.6, 0.4, 0.2, 0.0),
}
"""For strengths 1 to 5. blur: standard deviation of a Gaussian as a share of the shorter side; noise: standard deviation,
as a share of the whole range, of Gaussian noise in every sample; jpeg: quality; brightness: what is added to every
sample, as a share of the range; crop: share of each side that is kept, at a random place; rotation: degrees to a random
side, corners black; greyscale: share of the colour that stays."""

_EXTREME_ASPECT = 16
"""Of a picture that is longer than this for its height, or higher, only the middle is taken: the rest would cost memory
without bound, and most models crop it away."""


@dataclass(frozen=True)
class Corruption:
    """One kind at one strength, 1 to 5; what is random in it follows from ``seed`` and the picture's row alone."""

    kind: str
    strength: int
    seed: int = 0

    @staticmethod
    def parse(text: str) -> Corruption:
        """From KIND:STRENGTH or KIND:STRENGTH:SEED. Raises UserError naming the kinds there are."""
        kind, _, rest = text.partition(":")
        numbers = rest.split(":")
        whole = all(number.isascii() and number.isdigit() for number in numbers)
        if kind in STRENGTHS and whole and len(numbers) <= 2 and 1 <= int(numbers[0]) <= len(STRENGTHS[kind]):
            return Corruption(kind, *map(int, numbers))
        raise UserError(
            f"--corrupt {text}: write KIND:STRENGTH, such as blur:2, with a kind of {', '.join(STRENGTHS)} and a strength "
            "from 1 to 5; a seed may follow (noise:3:7)"
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.strength}" + (f":{self.seed}" if self.seed else "")

    def apply(self, image: torch.Tensor, row: int, shorter_side: int) -> torch.Tensor:
        """The picture, uint8 (3, height, width), made worse; shrunk first where its shorter side is longer than this."""
        amount = STRENGTHS[self.kind][self.strength - 1]
        return _KINDS[self.kind](_shrink(image, shorter_side), amount, np.random.default_rng([self.seed, row]))


def _shrink(image: torch.Tensor, shorter_side: int) -> torch.Tensor:
    import torchvision.transforms.v2.functional as F
    from torchvision.transforms import InterpolationMode

    short = min(image.shape[-2:])
    if max(image.shape[-2:]) > _EXTREME_ASPECT * short:
        image = F.center_crop(image, [min(side, _EXTREME_ASPECT * short) for side in image.shape[-2:]])
    if short <= shorter_side:
        return image
    size = [max(shorter_side, int(shorter_side * side / short)) for side in image.shape[-2:]]
    result: torch.Tensor = F.resize(image, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    return result


def _blur(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    import torch

    deviation = amount * min(image.shape[-2:])
    reach = max(1, math.ceil(3 * deviation))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    blurred = image[:, None].float()
    for kernel, padding in ((weights, (reach, reach, 0, 0)), (weights.mT, (0, 0, reach, reach))):
        blurred = torch.nn.functional.conv2d(torch.nn.functional.pad(blurred, padding, mode="replicate"), kernel)
    return _samples(blurred[:, 0])


def _noise(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    import torch

    return _samples(image + torch.from_numpy(random.normal(0, 255 * amount, tuple(image.shape))))


def _jpeg(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    import torch

    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=int(amount))
    with Image.open(stream) as saved:
        return torch.from_numpy(np.array(saved)).permute(2, 0, 1)


def _brightness(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    return _samples(image + 255 * amount)


def _crop(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    height, width = (max(1, round(amount * side)) for side in image.shape[-2:])
    top = int(random.integers(image.shape[-2] - height + 1))
    left = int(random.integers(image.shape[-1] - width + 1))
    return image[:, top : top + height, left : left + width]


def _rotation(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    import torchvision.transforms.v2.functional as F
    from torchvision.transforms import InterpolationMode

    degrees = amount if random.random() < 0.5 else -amount
    result: torch.Tensor = F.rotate(image, degrees, interpolation=InterpolationMode.BILINEAR, fill=[0.0])
    return result


def _greyscale(image: torch.Tensor, amount: float, random: np.random.Generator) -> torch.Tensor:
    import torchvision.transforms.v2.functional as F

    result: torch.Tensor = F.adjust_saturation(image, amount)
    return result


def _samples(values: torch.Tensor) -> torch.Tensor:
    """Rounded to the nearest sample of 0 to 255."""
    import torch

    return values.round().clamp(0, 255).to(torch.uint8)


_KINDS = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "crop": _crop,
    "rotation": _rotation,
    "greyscale": _greyscale,
}
