"""Models of transformers that vLLM runs on GPUs: what is asked of it and what it says, as plain values. vLLM is not imported.

`ray.data.llm` drives it (`clipmill.engine.vllm`). A row is one text about one picture: each candidate is drawn by a seed of its
own, and each choice is a row that ends with it, whose tokens vLLM tells the probabilities of. A question is put by the chat
template of the model's processor, and tokenised, as `clipmill.words.engines.transformers` does.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.transforms.functional import to_pil_image

from clipmill.core.errors import UserError
from clipmill.core.schemas import Reason
from clipmill.words.engines.messages import conversation, rendered
from clipmill.words.protocol import Decoding, Finish, Prepared, Question, Said, Unanswerable

_TOO_LONG = ("longer than the maximum model length", "maximum context length", "may be provided in one prompt")
"""Of what vLLM says where a prompt with its pictures does not fit."""


@dataclass(frozen=True)
class VllmPrompts:
    """How questions are put: the model's ``processor``, the tokens that end a text, and the most tokens of prompt and text,
    where the model says."""

    processor: Any
    ends: tuple[int, ...]
    context_length: int | None

    @staticmethod
    def of(name: str, folder: Path) -> VllmPrompts:
        """Of the model in a folder that ``--model`` calls ``name``. Raises UserError where it is not asked by messages."""
        import transformers

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            processor = transformers.AutoProcessor.from_pretrained(folder, **options)
            text = transformers.AutoConfig.from_pretrained(folder, **options).get_text_config(decoder=True)
        except Exception as error:
            raise UserError(f"--model {name}: {folder} has no processor that can be loaded ({error})") from None
        if not getattr(processor, "chat_template", None):
            raise UserError(
                f"--engine vllm asks by messages, and the processor of --model {name} has no chat template: give --engine "
                "transformers"
            )
        ends = _ends(folder, text, processor.tokenizer)
        length = getattr(text, "max_position_embeddings", None)
        return VllmPrompts(processor, ends, None if length is None else int(length))

    def prepare(self, question: Question) -> Prepared:
        """The tokens of the prompt, in which a picture is one place that vLLM fills, and the messages with the pictures. Raises
        `Unanswerable` where the words alone are too many."""
        tokens = [int(token) for token in self.processor.tokenizer(rendered(self.processor, question))["input_ids"]]
        most = self.context_length
        if most is not None and len(tokens) >= most:
            raise Unanswerable(f"the prompt has {len(tokens)} tokens, and the model takes {most} with its answer")
        return Prepared({"tokenized_prompt": tokens, "messages": _with_pictures(question)}, len(tokens))

    def answer(self, choice: str) -> list[int]:
        """The tokens of a choice, and the end of a text."""
        words = self.processor.tokenizer(choice, add_special_tokens=False)["input_ids"]
        return [*(int(token) for token in words), self.ends[0]]

    def request(self, prepared: Prepared, decoding: Decoding, seed: int) -> dict[str, Any]:
        """A row that is to be written about."""
        drawn: dict[str, Any] = {"temperature": 0.0}
        if decoding.temperature > 0:
            drawn = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": seed}
        parameters = {"max_tokens": decoding.max_tokens, "logprobs": 0, "stop_token_ids": list(self.ends), **drawn}
        return {**prepared.inputs, "sampling_params": parameters}

    def scoring(self, prepared: Prepared, choice: str) -> dict[str, Any]:
        """A row that ends with a choice; vLLM writes one token behind it, which nobody reads."""
        tokens = [*prepared.inputs["tokenized_prompt"], *self.answer(choice)]
        parameters = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        return {"messages": prepared.inputs["messages"], "tokenized_prompt": tokens, "sampling_params": parameters}

    def said(self, output: Mapping[str, Any]) -> Said:
        """The text of a row. Raises ValueError where vLLM did not tell a token's probability."""
        tokens = [int(token) for token in output["generated_tokens"]]
        told = [_logprob(of, token) for of, token in zip(output["logprobs"], tokens, strict=True)]
        finish: Finish = "stop" if tokens and tokens[-1] in self.ends else "length"
        return Said(str(output["generated_text"]).strip(), len(tokens), _mean(told), finish)

    def scored(self, output: Mapping[str, Any], choice: str) -> Said:
        """How probable the choice is that a row ends with. Raises ValueError where vLLM did not tell it."""
        answer = self.answer(choice)
        told = list(output["prompt_logprobs"] or ())[-len(answer) :]
        if len(told) != len(answer):
            raise ValueError("vLLM told no probabilities of the prompt's tokens")
        found = [_logprob(of, token) for of, token in zip(told, answer, strict=True)]
        return Said(choice, len(answer), _mean(found), "choice")


def seed_of(seed: int, row: int, candidate: int) -> int:
    """What a text is drawn by: of the row and not of its batch, which vLLM puts together as rows come."""
    return zlib.crc32(f"{seed}/{row}/{candidate}".encode())


def reason_of(error: str) -> Reason:
    """What an error of a row means."""
    return Reason.NOT_ANSWERABLE if any(words in error for words in _TOO_LONG) else Reason.ENGINE_FAILED


def _with_pictures(question: Question) -> list[dict[str, Any]]:
    """The conversation with the pictures in their places, as PIL holds them."""
    pictures = iter([*(shown.picture for shown in question.examples), question.picture])

    def part(named: dict[str, Any]) -> dict[str, Any]:
        if named["type"] != "image":
            return named
        return {"type": "image_pil", "image_pil": to_pil_image(next(pictures))}

    return [{**message, "content": [part(one) for one in message["content"]]} for message in conversation(question)]


def _ends(folder: Path, text: Any, tokenizer: Any) -> tuple[int, ...]:
    """As `transformers` finds them: of how the model generates, else of its decoder, else of its tokenizer."""
    try:
        given = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        given = None
    for other in (getattr(text, "eos_token_id", None), tokenizer.eos_token_id):
        given = other if given is None else given
    return tuple(int(end) for end in (given if isinstance(given, (list, tuple)) else [given]))


def _logprob(of: Mapping[Any, Any] | None, token: int) -> float:
    """That of one token. What passes between processes may have names in place of numbers, and room for all tokens."""
    for name, told in (of or {}).items():
        if told is not None and int(name) == token:
            return float(told["logprob"])
    raise ValueError(f"vLLM told no probability of the token {token}")


def _mean(found: Sequence[float]) -> float | None:
    return sum(found) / len(found) if found else None
