"""Pictures for tests of encoders: noise over coarse structure, so that no two ways of resizing agree by chance."""

import io

import numpy as np
from PIL import Image


def noisy(width: int, height: int, seed: int = 0) -> bytes:
    """A PNG of this size, another one for another size or seed."""
    rng = np.random.default_rng([seed, width, height])
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    values = np.asarray(coarse, np.int16) + rng.integers(-20, 21, (height, width, 3))
    stream = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
