"""Images among which a few near-duplicates are planted."""

from pathlib import Path

import numpy as np

from clustered import image_and_caption_vectors, unit, write_embeddings

N, DIMENSION = 3000, 128
PLANTED = {0.995: (5, 2900), 0.97: (700, 701), 0.96: (701, 1500)}
"""By cosine, the positions of two images."""


def planted_vectors() -> np.ndarray:
    """Float16 (`N`, `DIMENSION`), of unit length."""
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((N, DIMENSION)))
    for cosine, (original, copy) in PLANTED.items():
        aside = rng.standard_normal(DIMENSION)
        aside = unit(aside - (aside @ images[original]) * images[original])
        images[copy] = cosine * images[original] + np.sqrt(1 - cosine**2) * aside
    return images.astype(np.float16)


def planted_embeddings(folder: Path, vectors: np.ndarray) -> str:
    """A dataset of these images, and of captions of which two are the same."""
    captions = image_and_caption_vectors(N, 500, DIMENSION, seed=1)[1]
    captions[400] = captions[7]
    return str(write_embeddings(folder, vectors, captions, labels=[f"label {row}" for row in range(N)]))
