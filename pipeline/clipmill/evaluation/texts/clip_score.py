"""CLIPScore: how well texts fit their pictures in the space of a CLIP model, and their references (Hessel et al. 2021)."""

import numpy as np
from numpy.typing import NDArray

_SCALE = 2.5


def clip_score(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """2.5 · max(cos, 0) of each text and its picture."""
    result: NDArray[np.float64] = _SCALE * np.maximum(cosines, 0)
    return result


def ref_clip_score(cosines: NDArray[np.float64], with_references: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean of CLIPScore and of the largest cosine with a reference, if that is above 0: float64 (n,)."""
    score, alike = clip_score(cosines), np.maximum(with_references, 0)
    total = score + alike
    result: NDArray[np.float64] = np.where(total > 0, 2 * score * alike / np.where(total > 0, total, 1), 0.0)
    return result
