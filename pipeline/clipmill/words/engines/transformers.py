"""Models of transformers that take pictures and words and write words (`AutoModelForImageTextToText`).

Where the processor has a chat template, a question is a user's message with a picture; else the words stand as they are.
Models that only decode continue the prompt, so batches are filled up on its left; those with an encoder on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F
from torchvision.transforms.functional import to_pil_image

from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.words.engines.messages import rendered
from clipmill.words.joining import BY_TOKEN, joined
from clipmill.words.protocol import Decoding, Finish, Prepared, Question, Said, Unanswerable

_NOT_FOR_GENERATING = ("labels",)
_EXACT = ("blip", "git")
"""Types that write wrong texts behind a prompt that is filled up."""
_MESSAGES_KEPT = 10_000
_WITHOUT_CACHE = ("blip", "blip-2", "git")
"""Types that keep nothing of a prompt between two passes that are not their own."""


@dataclass(frozen=True)
class TransformersGenerator:
    """A model of transformers with its processor, on ``device``."""

    network: Any
    processor: Any
    identity: GeneratorIdentity
    device: torch.device

    @property
    def kind(self) -> str:
        """The type of the model."""
        return str(self.network.config.model_type)

    @property
    def chats(self) -> bool:
        """Whether questions are messages."""
        return bool(getattr(self.processor, "chat_template", None))

    @property
    def exact(self) -> bool:
        """Whether prompts of a batch have to be of one length."""
        return self.kind in _EXACT

    @cached_property
    def encodes(self) -> bool:
        """Whether an encoder reads the prompt."""
        text = getattr(self.network.config, "text_config", None)
        return any(bool(getattr(config, "is_encoder_decoder", False)) for config in (self.network.config, text))

    @cached_property
    def context_length(self) -> int | None:
        """The most tokens of prompt and text together, where the model says."""
        text = self.network.config.get_text_config()
        length = getattr(text, "max_position_embeddings", None)
        return None if length is None else int(length)

    @property
    def _tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    @cached_property
    def _ends(self) -> torch.Tensor:
        """Tokens that end a text."""
        given = self.network.generation_config.eos_token_id
        if self.kind == "blip":
            given = self.network.config.text_config.sep_token_id
        if given is None:
            given = getattr(self.network.config.get_text_config(decoder=True), "eos_token_id", None)
        if given is None:
            given = self._tokenizer.eos_token_id
        return torch.tensor(given if isinstance(given, (list, tuple)) else [given], device=self.device)

    @cached_property
    def _filler(self) -> int:
        filler = self._tokenizer.pad_token_id
        return int(self._ends[0]) if filler is None else int(filler)

    def prepare(self, question: Question) -> Prepared:
        """Pictures and words as the processor makes them."""
        shown = [one.picture for one in question.examples]
        pictures = [to_pil_image(picture) for picture in (*shown, question.picture)]
        if self.chats:
            made = self.processor(images=[pictures], text=[self._message(question)], return_tensors="pt")
        elif question.examples:
            raise Unanswerable(f"a model of the type {self.kind} has no chat template, and so takes no examples")
        elif question.prompt:
            made = self.processor(images=pictures, text=[question.prompt], return_tensors="pt")
        elif self.kind in _EXACT:
            made = self.processor(images=pictures, return_tensors="pt")
        else:
            made = self.processor(images=pictures, text=[""], return_tensors="pt")
        inputs = {name: value for name, value in made.items() if name not in _NOT_FOR_GENERATING}
        length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        most = self.context_length
        if most is not None and length >= most:
            raise Unanswerable(f"the prompt has {length} tokens, and the model takes {most} with its answer")
        return Prepared(inputs, length)

    @cached_property
    def _rendered(self) -> dict[str, str]:
        """Messages by their prompts: of most inputs all pictures are asked the same."""
        return {}

    def _message(self, question: Question) -> str:
        """A question as the chat template puts it."""
        known = None if question.examples else self._rendered.get(question.prompt)
        if known is None:
            known = rendered(self.processor, question)
            if not question.examples and len(self._rendered) < _MESSAGES_KEPT:
                self._rendered[question.prompt] = known
        return known

    def generate(self, batch: Sequence[Prepared], decoding: Decoding, seed: int) -> list[list[Said]]:
        """Texts by the library's own `generate`."""
        torch.manual_seed(seed)
        options: dict[str, Any] = {"do_sample": decoding.temperature > 0, "max_new_tokens": decoding.max_tokens}
        if decoding.temperature > 0:
            options |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
            options["num_return_sequences"] = decoding.candidates
        with torch.inference_mode():
            made = self.network.generate(
                **self._inputs(batch),
                **options,
                num_beams=1,
                return_dict_in_generate=True,
                output_logits=True,
            )
        said = self._said(made.sequences[:, -len(made.logits) :], torch.stack(made.logits, dim=1), decoding)
        each = len(said) // len(batch)
        return [said[at * each : (at + 1) * each] for at in range(len(batch))]

    def _inputs(self, batch: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        inputs = joined(batch, self._filler, left=not self.encodes)
        dtype = self.network.dtype
        return {
            name: tensor.to(self.device, dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }

    def _said(self, tokens: torch.Tensor, logits: torch.Tensor, decoding: Decoding) -> list[Said]:
        """``tokens`` (n, t) with what stands behind the end of a text, ``logits`` (n, t, vocabulary)."""
        ended = torch.isin(tokens, self._ends)
        lengths = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, tokens.shape[1])
        chosen = _of_tokens(logits, tokens)
        said = []
        for row, length in enumerate(lengths.tolist()):
            finish: Finish = "stop" if bool(ended[row].any()) else "length"
            text = self._tokenizer.decode(tokens[row, :length].tolist(), skip_special_tokens=True)
            said.append(Said(text.strip(), length, float(chosen[row, :length].mean()), finish))
        return said

    def score(self, batch: Sequence[Prepared], choices: Sequence[str]) -> list[list[Said]]:
        """The prompt passes once, and every choice behind what was kept of it, where the model keeps it; else each with the
        prompt before it."""
        answers = [self._answer(choice) for choice in choices]
        inputs = self._inputs(batch)
        with torch.inference_mode():
            if self.encodes:
                sums = self._decoded(inputs, answers)
            elif self.kind in _WITHOUT_CACHE:
                sums = self._whole(inputs, answers)
            else:
                sums = self._behind(inputs, answers)
        return [
            [
                Said(choice, len(answer), float(total) / len(answer), "choice")
                for choice, answer, total in zip(choices, answers, row, strict=True)
            ]
            for row in sums.tolist()
        ]

    def _answer(self, choice: str) -> list[int]:
        """The tokens of a choice, and the end of a text."""
        words = choice if self.chats or self.encodes else f" {choice}"
        return [*self._tokenizer(words, add_special_tokens=False)["input_ids"], int(self._ends[0])]

    def _behind(self, inputs: dict[str, torch.Tensor], answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """Sums of log probabilities (n, choices) of answers that continue prompts of one length: these pass once."""
        begun = self.network(**inputs, use_cache=True)
        kept, logits = begun.past_key_values, begun.logits[:, -1]
        rows, count = len(logits), len(answers)
        first = F.log_softmax(logits.float(), dim=-1)[:, [answer[0] for answer in answers]]
        tokens, there = _filled(answers, self._filler, self.device)
        if tokens.shape[1] == 1:
            return first
        kept.batch_repeat_interleave(count)
        given = tokens[:, :-1].repeat(rows, 1)  # without a mask: nothing was filled up
        rest = self.network(input_ids=given, cache=kept, use_cache=True).logits
        each = _of_tokens(rest, tokens[:, 1:].repeat(rows, 1))
        return first + (each * there[:, 1:].repeat(rows, 1)).sum(dim=1).view(rows, count)

    def _whole(self, inputs: dict[str, torch.Tensor], answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """The same by a pass of prompt and answer for each choice."""
        prompts = inputs["input_ids"]
        if self.kind == "blip":  # as its `generate` does: another first token, and none that ends the prompt
            prompts = prompts[:, :-1].clone()
            prompts[:, 0] = self.network.config.text_config.bos_token_id
        others = {name: tensor for name, tensor in inputs.items() if name not in BY_TOKEN}
        found = []
        for answer in answers:
            behind = torch.tensor(answer, device=self.device).repeat(len(prompts), 1)
            ids = torch.cat([prompts, behind], dim=1)
            logits = self.network(**others, input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            found.append(_of_tokens(logits[:, -len(answer) - 1 : -1], behind).sum(dim=1))
        return torch.stack(found, dim=1)

    def _decoded(self, inputs: dict[str, torch.Tensor], answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """The same of a model that reads the prompt with an encoder and writes the answer with a decoder."""
        begin = self.network.generation_config.decoder_start_token_id
        if begin is None:
            begin = self.network.config.get_text_config(decoder=True).decoder_start_token_id
        found = []
        for answer in answers:
            wanted = torch.tensor(answer, device=self.device).repeat(len(inputs["input_ids"]), 1)
            given = torch.cat([torch.full_like(wanted[:, :1], begin), wanted[:, :-1]], dim=1)
            logits = self.network(**inputs, decoder_input_ids=given).logits
            found.append(_of_tokens(logits, wanted).sum(dim=1))
        return torch.stack(found, dim=1)


def _of_tokens(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log probabilities (n, t) of tokens (n, t) by their logits (n, t, vocabulary)."""
    return F.log_softmax(logits.float(), dim=-1).gather(2, tokens[..., None])[..., 0]


def _filled(answers: Sequence[Sequence[int]], filler: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (choices, longest) and which of them are there."""
    longest = max(map(len, answers))
    tokens = torch.full((len(answers), longest), filler, device=device)
    there = torch.zeros((len(answers), longest), dtype=torch.bool, device=device)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer)] = torch.tensor(answer, device=device)
        there[row, : len(answer)] = True
    return tokens, there
