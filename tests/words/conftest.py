"""Pictures to write about."""

from pathlib import Path

import pytest
import torch

from blocks import encoded
from clipmill.source.decode import decode_image

PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared/data/coco_mini"


@pytest.fixture(scope="session")
def pictures() -> list[torch.Tensor]:
    """Twelve pictures of several shapes, uint8 (3, height, width): photographs where they are on this machine."""
    files = sorted(PHOTOGRAPHS.glob("*2017/*.jpg"))[:12]
    if files:
        return [decode_image(file.read_bytes(), 10**8) for file in files]
    return [decode_image(encoded(seed, (40 + 3 * seed, 60 - 2 * seed)), 10**8) for seed in range(12)]
