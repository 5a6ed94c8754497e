"""From a decoded picture to what the encoder sees: resized and cropped uint8, then normalised on the encoder's device.

The steps are open_clip's evaluation transform, on uint8 tensors instead of PIL images: several times faster a core, and
the pixels stay one byte each until they reach the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_EXTREME_ASPECT = 16
"""Beyond this ratio of sides only the middle of a picture is resized: the rest would be cropped away, and a
20,000 x 1 picture resized whole is larger than memory."""
_FILTER_MARGIN = 8


@dataclass(frozen=True)
class Preprocessing:
    """How a model's pictures were prepared in its training: open_clip's ``PreprocessCfg``, frozen.

    ``size`` is (height, width); ``resize_mode`` is shortest (then centre crop), longest (then pad) or squash.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize_mode: str
    fill_color: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a prepared picture."""
        return (3, *self.size)

    @staticmethod
    def from_open_clip(values: Mapping[str, Any]) -> Preprocessing:
        """From the dictionary that open_clip attaches to a model or writes to ``open_clip_config.json``."""
        size = values["size"]
        height, width = (size, size) if isinstance(size, int) else (size[-2], size[-1])
        return Preprocessing(
            size=(int(height), int(width)),
            mean=_triple(values["mean"]),
            std=_triple(values["std"]),
            interpolation="bilinear" if values["interpolation"] == "bilinear" else "bicubic",
            resize_mode=values["resize_mode"],
            fill_color=int(values.get("fill_color", 0)),
        )

    def as_dict(self) -> dict[str, Any]:
        """For the model's identity: plain JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """A picture, uint8 (3, height, width) of any size, as uint8 (3, *size)."""
        import torchvision.transforms.v2.functional as F

        if self.resize_mode == "squash":
            return self._resize(image, self.size)
        height, width = image.shape[-2:]
        if self.resize_mode == "longest":
            ratio = max(height / self.size[0], width / self.size[1])
            resized = self._resize(image, (max(1, round(height / ratio)), max(1, round(width / ratio))))
            return self._crop_or_pad(resized)
        image = middle(image, self.size)
        height, width = image.shape[-2:]
        if self.size[0] == self.size[1]:
            short = self.size[0]
            target = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
        else:
            ratio = min(height / self.size[0], width / self.size[1])
            target = (round(height / ratio), round(width / ratio))
        result: torch.Tensor = F.center_crop(self._resize(image, target), list(self.size))
        return result

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """A batch of prepared pictures, uint8 (n, 3, height, width), as float32 with the model's mean and deviation."""
        import torch

        mean, deviation = _scale(self.mean, self.std, pixels.device)
        return pixels.to(torch.float32).sub_(mean).div_(deviation)

    def _resize(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        import torchvision.transforms.v2.functional as F
        from torchvision.transforms import InterpolationMode

        mode = InterpolationMode.BILINEAR if self.interpolation == "bilinear" else InterpolationMode.BICUBIC
        if tuple(image.shape[-2:]) == size:
            return image
        result: torch.Tensor = F.resize(image, list(size), interpolation=mode, antialias=True)
        return result

    def _crop_or_pad(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        import torchvision.transforms.v2.functional as F

        down, across = max(0, self.size[0] - height), max(0, self.size[1] - width)
        if down or across:
            padding = [across // 2, down // 2, (across + 1) // 2, (down + 1) // 2]
            image = F.pad(image, padding, fill=[float(self.fill_color)])
        result: torch.Tensor = F.center_crop(image, list(self.size))
        return result


def middle(image: torch.Tensor, size: tuple[int, int], extreme: int = _EXTREME_ASPECT) -> torch.Tensor:
    """What a centre crop to ``size`` can see of a picture whose sides have a ratio of more than ``extreme``; another picture
    is left as it is."""
    height, width = image.shape[-2:]
    short = min(height, width)
    if max(height, width) <= extreme * short:
        return image
    import torchvision.transforms.v2.functional as F

    keep = int(short * max(size) / min(size) * 2) + _FILTER_MARGIN
    result: torch.Tensor = F.center_crop(image, [min(height, keep), min(width, keep)])
    return result


@lru_cache(maxsize=16)
def _scale(
    mean: tuple[float, float, float], std: tuple[float, float, float], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation in steps of a pixel, float32 (1, 3, 1, 1), kept on the device: bringing them there for every batch
    would make this process wait for a GPU."""
    import torch

    with torch.inference_mode(mode=False):  # training computes with them too
        made = [torch.tensor(values).mul_(255).view(1, 3, 1, 1).to(device) for values in (mean, std)]
    return made[0], made[1]


def _triple(values: Any) -> tuple[float, float, float]:
    if isinstance(values, int | float):
        values = (values,) * 3
    red, green, blue = (float(value) for value in values)
    return red, green, blue
