"""An encoder that stands in for one on other hardware. In a file of its own, which workers import by its name."""

import time

import open_clip
import torch

LATENCY_SECONDS = 1.0
"""Of a batch of pictures, whatever its size."""


class FixedLatency(open_clip.CLIP):
    """Takes the same time for every batch of pictures, and no processor for most of it."""

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        until = time.monotonic() + LATENCY_SECONDS
        features: torch.Tensor = super().encode_image(image, normalize=normalize)
        time.sleep(max(0.0, until - time.monotonic()))
        return features
