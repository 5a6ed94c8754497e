"""One dataset of captions and images, whose vectors a better and a worse model made."""

import numpy as np
from numpy.typing import NDArray

from captioned import pairs, unit

IMAGES, CAPTIONS, ROWS = pairs(120, 2, noise=1.5)
PATHS = ("s3://b/one.parquet", "s3://b/two.parquet")


def captions_with(noise: float, seed: int = 0) -> NDArray[np.float16]:
    """The captions as a worse model would place them."""
    spread = np.random.default_rng(seed).standard_normal(CAPTIONS.shape) * noise / 4
    return unit(CAPTIONS.astype(np.float64) + spread)


def caption_ranks(noise: float) -> NDArray[np.int64]:
    """The rank of each caption's image, by the plain definition."""
    scores = captions_with(noise).astype(np.float64) @ IMAGES.astype(np.float64).T
    return 1 + (scores > scores[range(len(scores)), ROWS][:, None]).sum(axis=1)
