"""What a scorer is to the rest of clipmill: pictures, texts, and which belong together in; a score for each pair out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Scorer(Protocol):
    """One model on one device."""

    def prepare(self, picture: torch.Tensor) -> Any:
        """A picture, uint8 (3, height, width), made ready; done by threads beside the model."""
        ...

    def score(self, pictures: Sequence[Any], texts: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        """How well texts fit pictures that were made ready, float32 (n,): of ``pairs`` (n, 2), the places of a picture and of
        a text."""
        ...

    def cut_short(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which texts are longer than the model reads, bool (n,)."""
        ...
