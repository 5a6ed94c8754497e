"""The cosine of a picture and a text in the space of any model of `clipmill.encoders`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clipmill.encoders.model import ClipModel
from clipmill.encoders.tokens import cut_short


@dataclass(frozen=True)
class ClipScorer:
    """A model that encodes pictures and texts."""

    model: ClipModel

    def prepare(self, picture: torch.Tensor) -> torch.Tensor:
        """As the model's pictures are prepared for embedding."""
        return self.model.preprocessing.prepare(picture)

    def score(
        self, pictures: Sequence[torch.Tensor], texts: Sequence[str], pairs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Cosines, from -1 to 1."""
        if not len(pairs):
            return np.empty(0, np.float32)
        seen, read = self.model.encode_images(torch.stack(list(pictures))), self.model.encode_texts(texts)
        found: NDArray[np.float32] = np.einsum("ij,ij->i", seen[pairs[:, 0]], read[pairs[:, 1]])
        return np.clip(found, -1, 1)

    def cut_short(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Those beyond the model's context."""
        return cut_short(self.model.tokenizer, texts)
