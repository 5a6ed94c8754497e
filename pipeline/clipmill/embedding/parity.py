"""How far the vectors of a faster precision are from those of float32, measured on pictures of the run itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from clipmill.embedding.statistics import Statistics
    from clipmill.encoders.model import ClipModel

_SAMPLE = 16
BAR = 0.999
"""The least cosine between a vector and its float32 self that is not warned of."""


def compare_with_fp32(model: ClipModel, decoded: pa.Table, seed: int, statistics: Statistics) -> None:
    """Encodes a few pictures of a decoded unit, drawn by ``seed``, once more in float32, and adds their cosines to
    ``statistics``."""
    pictures = decoded.column("pixels").drop_null()
    if not len(pictures):
        return
    drawn = np.sort(np.random.default_rng(seed).permutation(len(pictures))[:_SAMPLE])
    values = [np.frombuffer(picture.as_buffer(), np.uint8) for picture in pictures.take(pa.array(drawn))]
    pixels = np.stack(values).reshape(len(drawn), *model.preprocessing.shape)
    exact = replace(model, precision="fp32").encode_images(pixels)
    cosines = (model.encode_images(pixels) * exact).sum(axis=1)
    statistics.compared += len(cosines)
    statistics.cosines += float(cosines.sum())
    statistics.least_cosine = min([float(cosines.min())] + [c for c in [statistics.least_cosine] if c is not None])


def parity_of(total: Statistics) -> dict[str, float]:
    """``images`` compared, their ``minimum_cosine`` and ``mean_cosine``; empty where all was float32."""
    if not total.compared or total.least_cosine is None:
        return {}
    return {
        "images": total.compared,
        "minimum_cosine": round(total.least_cosine, 6),
        "mean_cosine": round(total.cosines / total.compared, 6),
    }
