"""Texts as token ids by a tokenizer of transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

NO_TOKEN = -1
"""Fills rows up: no vocabulary has it, where the token that libraries pad with may also stand in a text."""
_SOME_PADDING = 32
"""Enough to see whether it makes a difference; a tower may have positions for 30,000 tokens."""
_FILES = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "*.model")


@dataclass(frozen=True)
class WordPieces:
    """Texts to int64 (n, longest + 1), their ids first, then `NO_TOKEN`. ``length`` is the most tokens of a text, which may be
    many times what texts have; ``prompt`` stands before every text."""

    tokenizer: Any
    length: int
    prompt: str = ""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Longer texts are cut as the library's tokenizer cuts them."""
        given = [self.prompt + text for text in texts]
        made = self.tokenizer(given, truncation=True, max_length=self.length, padding=False)["input_ids"]
        rows = np.full((len(given), max(map(len, made), default=0) + 1), NO_TOKEN, np.int64)
        for row, ids in zip(rows, made, strict=True):
            row[: len(ids)] = ids
        return torch.from_numpy(rows)


@dataclass(frozen=True)
class Padding:
    """How a tokenizer fills texts up: with which id, whether the tower is told by a mask, and whether before the text."""

    token: int
    masked: bool
    left: bool

    @staticmethod
    def of(tokenizer: Any) -> Padding:
        """As the tokenizer does."""
        token = tokenizer.pad_token_id
        masked = "attention_mask" in tokenizer.model_input_names
        return Padding(0 if token is None else int(token), masked, tokenizer.padding_side == "left")


def text_inputs(tokens: torch.Tensor, padding: Padding) -> dict[str, torch.Tensor]:
    """What a text tower takes, of ids (n, length) with `NO_TOKEN` at the ends: ``input_ids`` filled up, and the
    ``attention_mask`` where there is one."""
    there = tokens != NO_TOKEN
    if padding.left:
        order = there.to(torch.int64).argsort(dim=1, stable=True)  # padding first, ids in their order
        tokens, there = tokens.gather(1, order), there.gather(1, order)
    inputs = {"input_ids": torch.where(there, tokens, padding.token)}
    return {**inputs, "attention_mask": there.to(torch.int64)} if padding.masked else inputs


def agrees_without_padding(features: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor) -> bool:
    """Whether texts, ids (n, length), have the same vectors each cut to its own length and filled up, but for rounding."""

    def unit(ids: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(features(ids).to(torch.float32), dim=-1)

    lengths = (tokens != NO_TOKEN).sum(dim=1).clamp(min=1).tolist()
    whole = unit(tokens[:, : max(lengths) + _SOME_PADDING])
    cut = torch.cat([unit(tokens[at : at + 1, :length]) for at, length in enumerate(lengths)])
    return bool((whole - cut).abs().max() <= 1e-5)


def tokenizer_sha256(folder: Path, length: int) -> str:
    """sha256 over the files that decide token ids, and where texts are cut."""
    digest = hashlib.sha256(str(length).encode())
    for file in sorted({file for pattern in _FILES for file in folder.glob(pattern) if file.is_file()}):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
