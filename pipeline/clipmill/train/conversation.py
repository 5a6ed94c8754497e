"""Questions about a picture with their answers, as token ids that a model which writes learns from.

    what stands before and for the picture | question, answer, end | question, answer, end | …

The picture is paid for once: every question looks back at it and at itself, not at the others, and counts its positions from
the picture. So each is learned as if it had been asked alone, which is how the model is asked later
(`clipmill.words.engines.transformers`). Only answers, each with the token that ends it, are learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from clipmill.core.errors import UserError
from clipmill.train.next_token import NOT_ASKED

Turn = tuple[str, str]
"""A question and its answer."""

_PICTURE, _NOTHING = 0, -1
_PROMPTS_KEPT = 10_000


@dataclass(frozen=True)
class Conversation:
    """One picture's questions and answers, all lists as long as ``ids``: the same with `NOT_ASKED` in place of what is not
    learned; positions; and the number of the turn, from 1, or 0 for what all turns look back at."""

    ids: list[int]
    labels: list[int]
    positions: list[int]
    turns: list[int]


@dataclass(frozen=True)
class Packed:
    """Conversations of a batch, int64 (n, longest), filled up on the right, and who looks at whom, bool (n, 1, longest,
    longest)."""

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    looks_at: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def some(self, rows: slice) -> "Packed":
        """These conversations alone."""
        return Packed(self.ids[rows], self.labels[rows], self.positions[rows], self.looks_at[rows])


@dataclass(frozen=True)
class Phrasing:
    """How a model's processor puts questions. ``blank`` is a picture of the one size that its image processor makes, so every
    picture stands for as many ``picture`` tokens; ``most`` tokens fit, and ``end`` ends an answer."""

    processor: Any
    blank: Any
    picture: int
    end: int
    filler: int
    most: int
    _prompts: dict[str, list[int]] = field(default_factory=dict)

    def conversation(self, turns: Sequence[Turn]) -> Conversation:
        """As many of the turns as fit, at least one. Raises UserError where the first does not."""
        prompts = [self._prompt(question) for question, _ in turns]
        shared = len(prompts[0]) - prompts[0][::-1].index(self.picture)
        made = Conversation(prompts[0][:shared], [NOT_ASKED] * shared, list(range(shared)), [_PICTURE] * shared)
        for number, (prompt, (_, answer)) in enumerate(zip(prompts, turns, strict=True), 1):
            asked, said = prompt[shared:], [*self._tokens(answer), self.end]
            length = len(asked) + len(said)
            if len(made.ids) + length > self.most:
                break
            made.ids.extend([*asked, *said])
            made.labels.extend([*[NOT_ASKED] * len(asked), *said])
            made.positions.extend(range(shared, shared + length))
            made.turns.extend([number] * length)
        if len(made.ids) == shared:
            raise UserError(
                f"a question with its answer has more tokens than the model takes ({self.most}): {turns[0]}"
            )
        return made

    def _prompt(self, question: str) -> list[int]:
        """What the model is asked with, the tokens of the picture in it."""
        known = self._prompts.get(question)
        if known is None:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            messages = [{"role": "user", "content": content}]
            text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            known = self.processor(images=[[self.blank]], text=[text], return_tensors="pt")["input_ids"][0].tolist()
            if len(self._prompts) < _PROMPTS_KEPT:
                self._prompts[question] = known
        return known

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def packed(self, conversations: Sequence[Conversation]) -> Packed:
        """A batch of them."""
        longest = max(len(one.ids) for one in conversations)

        def filled(name: str, filler: int) -> torch.Tensor:
            rows = [getattr(one, name) for one in conversations]
            return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])

        turns = filled("turns", _NOTHING)
        mine, theirs = turns[:, :, None], turns[:, None, :]
        before = torch.ones((longest, longest), dtype=torch.bool).tril()
        looks_at = before & ((theirs == _PICTURE) | (theirs == mine))
        labels, positions = filled("labels", NOT_ASKED), filled("positions", 0)
        return Packed(filled("ids", self.filler), labels, positions, looks_at[:, None])
