"""Queries encoded by the index's own model, and by no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.light import FEW_TEXTS, LightTexts, light_texts

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel

_MAX_IMAGE_PIXELS = 178_956_970


class QueryEncoder:
    """Texts and image files as query vectors, by the model with this identity.

    ``model`` and ``pretrained`` say where that model is to be had now, where that is not what its identity says. It is
    loaded for the first query. Raises UserError when there is no identity, no such model, or another one is there.
    """

    def __init__(
        self,
        identity: ModelIdentity | None,
        model: str | None,
        pretrained: str | None,
        *,
        trust_remote_code: bool = False,
    ) -> None:
        self._identity = identity
        self._trusted = trust_remote_code
        self._name = model
        self._pretrained = pretrained
        self._loaded: ClipModel | None = None
        self._tried_light: tuple[LightTexts | None] | None = None

    def load(self) -> ClipModel:
        """The model itself. Raises as the class says."""
        if self._loaded is not None:
            return self._loaded
        if self._identity is None:
            raise UserError(
                "this index was made of imported vectors, so which model encodes a query is not known; search it by "
                "--id, or encode your queries and give them as --queries"
            )
        from clipmill.encoders.model import load_model_of  # imports torch

        self._loaded = load_model_of(
            self._identity, self._name, self._pretrained, "the index", trust_remote_code=self._trusted
        )
        return self._loaded

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of texts, none of them empty."""
        if not all(text.strip() for text in texts):
            raise UserError("a query text is empty")
        if self._loaded is None and len(texts) <= FEW_TEXTS and (light := self._light()) is not None:
            return light.encode_texts(texts)
        return self.load().encode_queries(list(texts))

    def _light(self) -> LightTexts | None:
        """The text tower without torch, where that is to be had; looked for once."""
        if self._tried_light is None and self._identity is not None and self._name is None:
            self._tried_light = (light_texts(self._identity, self._pretrained),)
        return self._tried_light[0] if self._tried_light else None

    def encode_image(self, path: Path) -> NDArray[np.float32]:
        """The unit vector (1, d) of an image file."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"--image {path} cannot be read: {error.strerror}") from None
        return self.encode_picture(data, f"--image {path}")

    def encode_picture(
        self, data: bytes, name: str = "the picture", most_pixels: int = _MAX_IMAGE_PIXELS
    ) -> NDArray[np.float32]:
        """The unit vector (1, d) of an encoded picture, which messages call ``name``."""
        from clipmill.source.decode import Rejected, decode_image  # imports torch

        model = self.load()
        prepare = model.preprocessing.prepare
        try:
            pixels = prepare(decode_image(data, most_pixels))
        except Rejected as rejected:
            raise UserError(f"{name} is no image that can be searched with: {rejected.detail}") from None
        return model.encode_images(pixels[None])
