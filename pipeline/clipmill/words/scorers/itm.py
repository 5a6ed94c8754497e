"""The image-text matching head of BLIP: the probability that a text and a picture belong together.

The picture passes its tower once, however many texts it has; the text encoder looks at it through cross-attention (Li et al.
2022, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.functional import to_pil_image

CLASSES = ("BlipForImageTextRetrieval",)
"""The classes of transformers that have such a head."""


@dataclass(frozen=True)
class ItmScorer:
    """A `BlipForImageTextRetrieval` with its processor, ``batch_size`` pairs at once."""

    network: Any
    processor: Any
    device: torch.device
    batch_size: int

    def prepare(self, picture: torch.Tensor) -> torch.Tensor:
        """As the processor of the model does, float32 (3, height, width)."""
        found: torch.Tensor = self.processor.image_processor(to_pil_image(picture), return_tensors="pt")[
            "pixel_values"
        ][0]
        return found

    def score(
        self, pictures: Sequence[torch.Tensor], texts: Sequence[str], pairs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Probabilities, from 0 to 1."""
        found = np.empty(len(pairs), np.float32)
        with torch.inference_mode():
            seen = torch.cat([self._seen(pictures[at : at + self.batch_size]) for at in self._starts(len(pictures))])
            lengths = [len(ids) for ids in self._ids(texts)]
            order = sorted(range(len(pairs)), key=lambda at: (lengths[pairs[at, 1]], at))
            for start in self._starts(len(pairs)):
                places = order[start : start + self.batch_size]
                found[places] = self._matching(seen[pairs[places, 0]], [texts[at] for at in pairs[places, 1]])
        return found

    def _starts(self, count: int) -> range:
        return range(0, count, self.batch_size)

    def _seen(self, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
        pixels = torch.stack(list(pictures)).to(self.device, self.network.dtype)
        features: torch.Tensor = self.network.vision_model(pixel_values=pixels).last_hidden_state
        return features

    def _matching(self, seen: torch.Tensor, texts: Sequence[str]) -> NDArray[np.float32]:
        words = self.processor.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._context, return_tensors="pt"
        ).to(self.device)
        hidden = self.network.text_encoder(
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=self.device),
        ).last_hidden_state
        logits = self.network.itm_head(hidden[:, 0]).to(torch.float32)
        return np.asarray(logits.softmax(dim=-1)[:, 1].cpu().numpy())

    @property
    def _context(self) -> int:
        return int(self.network.config.text_config.max_position_embeddings)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self.processor.tokenizer(list(texts), truncation=False)["input_ids"] if texts else []
        return found

    def cut_short(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Those of more tokens than the text encoder has places for."""
        return np.array([len(ids) > self._context for ids in self._ids(texts)], np.bool_)
