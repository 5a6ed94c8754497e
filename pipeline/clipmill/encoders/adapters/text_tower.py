"""The text tower of a model of transformers, which those for pictures, sounds and videos have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from clipmill.encoders.adapters.words import Padding, WordPieces, agrees_without_padding, text_inputs
from clipmill.encoders.precision import in_bfloat16
from clipmill.encoders.protocol import Role
from clipmill.encoders.tokens import Tokenizer

POOLED, FIRST_TOKEN = "pooled", "first"


@dataclass(frozen=True)
class TextTower:
    """A model with ``get_text_features``. ``whole``: its texts are always filled up to the context length; ``pooling``: where
    the vector stands in what its towers return."""

    words: WordPieces
    padding: Padding
    whole: bool
    pooling: str

    def load_tokenizer(self, role: Role = "document") -> Tokenizer:
        """The same for queries: these models know no prompts."""
        return self.words

    def text_features(self, network: torch.nn.Module, tokens: torch.Tensor, *, cut: bool) -> torch.Tensor:
        """Features (n, d) of token ids, int64 (n, length)."""
        inputs = text_inputs(tokens, self.padding)
        return self._pooled(network.get_text_features(**inputs))  # type: ignore[operator]

    def can_cut(self, network: torch.nn.Module, tokens: torch.Tensor) -> bool:
        """Where a mask tells the tower what is padding, and it makes no difference."""
        return (
            self.padding.masked
            and not self.whole
            and agrees_without_padding(lambda ids: self.text_features(network, ids, cut=False), tokens)
        )

    def towers(self, network: torch.nn.Module, precision: str, device: torch.device) -> torch.nn.Module:
        """The network itself, or a copy in bfloat16."""
        return in_bfloat16(network) if precision == "bf16" else network

    def _pooled(self, output: Any) -> torch.Tensor:
        features: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
        return features[:, 0] if self.pooling == FIRST_TOKEN else features
