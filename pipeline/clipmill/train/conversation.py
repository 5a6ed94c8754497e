"""Questions about a picture with their answers, as token ids that a model which writes learns from.

    prompt of the first question, with the picture | answer | end | what asks the second | answer | end | …

All questions of a picture follow one another, as in LLaVA's instruction data (Liu et al., "Visual Instruction Tuning", 2023),
so that the picture is paid for once. What stands before an answer is what stands there when the model is asked
(`clipmill.words.engines.transformers`), and only answers, each with the token that ends it, are learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from clipmill.core.errors import UserError
from clipmill.train.next_token import NOT_ASKED

Turn = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True)
class Conversation:
    """Token ids of one picture's questions and answers, and the same with `NOT_ASKED` in place of what is not learned."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Phrasing:
    """How a model's processor puts questions. ``blank`` is a picture as its image processor makes them, all of one size, so
    that every picture stands for as many tokens; ``most`` tokens fit."""

    processor: Any
    blank: Any
    end: int
    most: int
    _begun: dict[str, list[int]] = field(default_factory=dict)

    def conversation(self, turns: Sequence[Turn]) -> Conversation:
        """As many of the turns as fit, at least one. Raises UserError where the first does not."""
        ids: list[int] = []
        labels: list[int] = []
        for number, (_, answer) in enumerate(turns):
            asked = self._begin(turns[0][0]) if number == 0 else self._go_on(turns[: number + 1])
            said = [*self._tokens(answer), self.end]
            if len(ids) + len(asked) + len(said) > self.most:
                break
            ids += [*asked, *said]
            labels += [*[NOT_ASKED] * len(asked), *said]
        if not ids:
            raise UserError(
                f"a picture with its question and answer has more tokens than the model takes ({self.most}): {turns[0]}"
            )
        return Conversation(ids, labels)

    def _begin(self, question: str) -> list[int]:
        """The prompt of a first question, the tokens of the picture in it."""
        known = self._begun.get(question)
        if known is None:
            text = self._prompt([(question, "")])
            known = self.processor(images=[[self.blank]], text=[text], return_tensors="pt")["input_ids"][0].tolist()
            if len(self._begun) < 10_000:
                self._begun[question] = known
        return known

    def _go_on(self, turns: Sequence[Turn]) -> list[int]:
        """What stands between the end of the last but one answer and the last answer."""
        before, after, answer = self._prompt(turns[:-1]), self._prompt(turns), turns[-2][1]
        said = after.removeprefix(before).lstrip()
        if not after.startswith(before) or not said.startswith(answer):
            raise UserError("the chat template of this model writes earlier turns otherwise than the last one")
        between = said.removeprefix(answer)
        return self._tokens(between.removeprefix(self.processor.tokenizer.decode([self.end])))

    def _prompt(self, turns: Sequence[Turn]) -> str:
        """The text that asks the last question, those before it answered."""
        messages: list[dict[str, Any]] = []
        for number, (question, answer) in enumerate(turns):
            picture = [{"type": "image"}] if number == 0 else []
            messages.append({"role": "user", "content": [*picture, {"type": "text", "text": question}]})
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        prompt: str = self.processor.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
        return prompt

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def joined(conversations: Sequence[Conversation], filler: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels and mask, int64 (n, longest), filled up on the right."""
    longest = max(len(one.ids) for one in conversations)
    ids = torch.full((len(conversations), longest), filler)
    labels = torch.full((len(conversations), longest), NOT_ASKED)
    mask = torch.zeros((len(conversations), longest), dtype=torch.int64)
    for row, one in enumerate(conversations):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        labels[row, : len(one.ids)] = torch.tensor(one.labels)
        mask[row, : len(one.ids)] = 1
    return ids, labels, mask
