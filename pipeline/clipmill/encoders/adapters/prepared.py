"""Pictures prepared by a library's own image processor, on workers that have no model.

A processor resizes and crops bytes and ends with one affine map a channel (rescale, normalise). Everything but that map is done
where pictures are decoded, so that they travel as bytes; the map is computed where they are encoded.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipmill.encoders.preprocess import middle

if TYPE_CHECKING:
    import torch

_AS_BYTES = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
_EXTREME_ASPECT = 256
"""Beyond this ratio of sides a picture that is resized whole is larger than memory allows; up to it nothing is left out, since
what is left out moves pixels by a fraction."""
SHAPE_BYTES = 4
"""Two int16 at the end of pictures that are a list of patches: how many of them stand above and beside one another."""


@dataclass(frozen=True)
class ProcessorPreparation:
    """An image processor of transformers. ``values`` are its settings as JSON, with its class.

    A prepared picture is uint8 (3, height, width), or, of a processor that cuts pictures into patches and keeps their
    proportions (NaFlex), uint8 (patches · values a patch + 4,): the patches, and how many rows and columns they make.
    """

    values: str
    size: tuple[int, int]
    shape: tuple[int, ...]

    @staticmethod
    def of(processor: Any, kept: Mapping[str, Any]) -> ProcessorPreparation:
        """Of a loaded processor. ``kept``: what its file says; what its class adds by itself may change between versions."""
        told = json.loads(processor.to_json_string())
        values = {key: value for key, value in told.items() if key in kept}
        values["image_processor_type"] = type(processor).__name__
        text = json.dumps(values, sort_keys=True)
        import torch

        found = _as_bytes(processor, torch.zeros((3, 64, 48), dtype=torch.uint8))
        pixels = found["pixel_values"][0]
        if "spatial_shapes" in found:
            side = round((pixels.numel() / 3) ** 0.5)
            return ProcessorPreparation(text, (side, side), (pixels.numel() + SHAPE_BYTES,))
        return ProcessorPreparation(text, (int(pixels.shape[-2]), int(pixels.shape[-1])), tuple(pixels.shape))

    @property
    def in_patches(self) -> bool:
        """Whether pictures keep their proportions, as a list of patches."""
        return len(self.shape) == 1

    def as_dict(self) -> dict[str, Any]:
        """The processor's settings and the size that it makes pictures."""
        return {"processor": json.loads(self.values), "size": list(self.size), "shape": list(self.shape)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ProcessorPreparation:
        """Of what `as_dict` has written."""
        height, width = values["size"]
        return ProcessorPreparation(
            json.dumps(values["processor"], sort_keys=True), (height, width), tuple(values["shape"])
        )

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """A picture, uint8 (3, height, width) of any size, as uint8 ``shape``."""
        import torch

        processor = self.processor
        if self._crops:
            image = middle(image, self.size, _EXTREME_ASPECT)
        found = _as_bytes(processor, image)
        pixels = found["pixel_values"][0]
        if not self.in_patches:
            return torch.as_tensor(pixels)
        rows, columns = found["spatial_shapes"][0].tolist()
        shape = torch.from_numpy(np.array([rows, columns], np.int16).view(np.uint8))
        return torch.cat([pixels.reshape(-1), shape])

    @property
    def _crops(self) -> bool:
        """Whether only the middle of a wide picture is seen; a processor may also squash it first, and then crop."""
        size = dict(getattr(self.processor, "size", None) or {})
        return bool(size.get("shortest_edge") and getattr(self.processor, "do_center_crop", False))

    @property
    def processor(self) -> Any:
        """The library's image processor, made once in a process."""
        return _processor(self.values)


@lru_cache(maxsize=8)
def _processor(values: str) -> Any:
    made = json.loads(values)
    return getattr(importlib.import_module("transformers"), made["image_processor_type"])(**_settings(made))


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "image_processor_type"}


def _as_bytes(processor: Any, image: torch.Tensor) -> Mapping[str, torch.Tensor]:
    only = {"include_top": False} if hasattr(processor, "include_top") else {}  # EfficientNet's second normalisation
    found: Mapping[str, torch.Tensor] = processor(images=image, **_AS_BYTES, **only)
    return found


def processor_file(folder: Path) -> Mapping[str, Any]:
    """The settings of the image processor that the folder tells."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            told: Mapping[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            values: Mapping[str, Any] = told.get("image_processor", told)
            return values
    return {}
