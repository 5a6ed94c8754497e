"""What an image processor does to bytes at its end, computed where pictures are encoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from clipmill.core.errors import UserError
from clipmill.encoders.adapters.prepared import SHAPE_BYTES, ProcessorPreparation

_AGREE = 1e-3
"""Largest difference between the processor's own pixels and the affine map of its bytes: float32 rounding, and no more."""


@dataclass(frozen=True)
class Normalisation:
    """The affine map that a processor ends with: ``scale`` and ``shift`` of each channel, or of each value of a patch."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @staticmethod
    def of(preparation: ProcessorPreparation) -> Normalisation:
        """Found by what the processor makes of a black and of a white picture, and tried on another one.

        Raises UserError for a processor that does anything else to pixels.
        """
        processor = preparation.processor
        black, white = (
            processor(images=torch.full((3, 32, 32), value, dtype=torch.uint8), return_tensors="pt")["pixel_values"][0]
            for value in (0, 255)
        )
        first = (0,) if preparation.in_patches else (slice(None), slice(0, 1), slice(0, 1))
        shift = black[first].to(torch.float32)
        scale = (white[first].to(torch.float32) - shift) / 255
        made = Normalisation(tuple(scale.flatten().tolist()), tuple(shift.flatten().tolist()))
        noise = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        whole = processor(images=noise, return_tensors="pt")["pixel_values"]
        prepared = preparation.prepare(noise)
        if tuple(prepared.shape) != preparation.shape:
            name = type(processor).__name__
            raise UserError(f"the image processor {name} makes pictures of different sizes, which is not supported")
        ours = made.inputs(preparation, prepared[None])["pixel_values"]
        if ours.shape != whole.shape or float((ours - whole).abs().max()) > _AGREE:
            name = type(processor).__name__
            raise UserError(
                f"the image processor {name} does more than resize, crop, rescale and normalise; not supported"
            )
        return made

    def inputs(self, preparation: ProcessorPreparation, prepared: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the network takes, of prepared pictures, uint8 (n, *shape): ``pixel_values`` float32, and of patches
        ``pixel_attention_mask`` (n, patches) and ``spatial_shapes`` (n, 2)."""
        shape = (-1,) if preparation.in_patches else (-1, 1, 1)
        scale, shift = (_tensor(values, shape, prepared.device) for values in (self.scale, self.shift))
        if not preparation.in_patches:
            return {"pixel_values": prepared.to(torch.float32) * scale + shift}
        patches = prepared[:, :-SHAPE_BYTES].reshape(len(prepared), -1, len(self.shift))
        shapes = prepared[:, -SHAPE_BYTES:].contiguous().view(torch.int16).to(torch.int64)
        there = torch.arange(patches.shape[1], device=prepared.device) < shapes.prod(dim=1)[:, None]
        values = (patches.to(torch.float32) * scale + shift) * there[:, :, None]
        return {"pixel_values": values, "pixel_attention_mask": there.to(torch.int32), "spatial_shapes": shapes}


@lru_cache(maxsize=16)
def _tensor(values: tuple[float, ...], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Kept on each device: bringing it there for every batch would make this process wait for a GPU."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=torch.float32).view(shape).to(device)
