"""What a package of one's own gives clipmill: a function, named as an entry point, that returns one of these.

    [project.entry-points."clipmill.encoders"]
    colours = "colour_encoder:load"

`clipmill embed --model colours:ARGUMENT` calls ``load("ARGUMENT")``. `examples/encoder/` is one that works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import SoundPreparation

if TYPE_CHECKING:
    import torch


class ImagePreparation(Protocol):
    """How pictures are prepared: `clipmill.encoders.preprocess.Preprocessing`, or a class with the same methods."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """A picture, uint8 (3, height, width) of any size, as uint8 ``shape``."""
        ...

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Prepared pictures, uint8 (n, *shape), as ``encode_image`` takes them, float32."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What decides the result, in JSON types."""
        ...


@dataclass(frozen=True)
class PackagedModel:
    """A model whose code lies in an installed package. All of it is pickled, so its classes are importable.

    ``network`` is a torch module in evaluation mode with ``encode_image(pixels)``, ``encode_text(tokens)``,
    ``encode_audio(prepared)`` or several of them, each giving features (n, d); they are normalised by clipmill. What
    ``encode_audio`` takes is uint8 (n, size), as the ``prepare`` of ``sounds`` made it of each window. Videos are means of
    pictures. ``tokenizer`` makes int64 (n, length) of texts, filled up at the end with the id that ends an empty text.
    ``query_tokenizer`` is given where queries are prepared otherwise.
    """

    network: torch.nn.Module
    images: Preprocessing | ImagePreparation | None = None
    tokenizer: Callable[[Sequence[str]], torch.Tensor] | None = None
    query_tokenizer: Callable[[Sequence[str]], torch.Tensor] | None = None
    sounds: SoundPreparation | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
