"""Captions as token ids that travel: without their padding, which is put back where they are encoded.

Tokenising takes more time of a core than encoding takes of a GPU, so it is done where pictures are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Tokenizer = Callable[[Sequence[str]], "torch.Tensor"]
"""Texts to int64 (n, context length), or, of a tokenizer that says its ``length``, only as wide as its texts need; the last id
of an empty text is the padding."""
TokenIds = NDArray[np.int32]
"""One text, int32 (its own length,): what the tokenizer made of it, without the padding at its end."""

_TRIED = ["", "a dog", "two red dogs run along a beach towards the sea, one of them with a stick"]


@dataclass(frozen=True)
class TokenForm:
    """What makes a batch of token ids out of single texts: rows of ``length`` ids, filled up with ``padding``.

    ``tried``: a few texts of different lengths, by which an encoder tries what it may do with padding.
    """

    length: int
    padding: int
    tried: tuple[TokenIds, ...]

    @staticmethod
    def of(tokenizer: Tokenizer) -> TokenForm:
        """The form of what a tokenizer makes."""
        made = tokenizer([""])
        padding, length = int(made[0, -1]), int(getattr(tokenizer, "length", made.shape[1]))
        return TokenForm(length, padding, tuple(_trimmed(tokenizer(_TRIED).numpy(), padding)))

    def batch(self, texts: Sequence[TokenIds], width: int | None = None) -> torch.Tensor:
        """Texts as rows, int64 (n, ``width``), filled up at their ends. ``width``: the context length, where not given."""
        import torch

        width = self.length if width is None else width
        rows = np.full((len(texts), width), self.padding, np.int64)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        if len(texts):
            rows[np.arange(width) < lengths[:, None]] = np.concatenate(texts)
        return torch.from_numpy(rows)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[TokenIds]:
    """Texts, cut at the model's context length, as token ids; equal texts once only."""
    unique = list(dict.fromkeys(texts))
    if not unique:
        return []
    made = tokenizer(unique).numpy()
    padding = int(tokenizer([""])[0, -1])
    ids = dict(zip(unique, _trimmed(made, padding), strict=True))
    return [ids[text] for text in texts]


def cut_short(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts are longer than the model reads, bool (n,): they fill its context, and their last letter makes no
    difference."""
    whole = [text.strip() for text in texts]
    return are_cut(tokenizer, whole, tokenise(tokenizer, whole))


def are_cut(tokenizer: Tokenizer, texts: Sequence[str], tokens: Sequence[TokenIds]) -> NDArray[np.bool_]:
    """As `cut_short`, of texts whose ``tokens`` are known."""
    found = np.zeros(len(texts), np.bool_)
    longest = max(map(len, tokens), default=0)
    if not longest or longest < TokenForm.of(tokenizer).length:
        return found
    full = [at for at, ids in enumerate(tokens) if len(ids) == longest]
    shorter = tokenise(tokenizer, [texts[at].strip()[:-1] for at in full])
    for at, less in zip(full, shorter, strict=True):
        found[at] = np.array_equal(tokens[at], less)
    return found


def _trimmed(rows: NDArray[np.int64], padding: int) -> list[TokenIds]:
    """Rows of token ids without the run of ``padding`` at their ends."""
    used = rows != padding
    lengths = np.where(used.any(axis=1), rows.shape[1] - np.argmax(used[:, ::-1], axis=1), 0)
    return [row[:length].astype(np.int32) for row, length in zip(rows, lengths.tolist(), strict=True)]
