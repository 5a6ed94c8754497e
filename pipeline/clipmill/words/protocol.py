"""What an engine that writes texts is asked, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from clipmill.core.text_manifests import GeneratorIdentity

Finish = Literal["stop", "length", "choice"]
"""Why a text ended: the model ended it, it was cut at the most tokens, or it is one of the choices."""


@dataclass(frozen=True)
class Shown:
    """A picture with a question and the answer that was wanted: an example before the question itself."""

    picture: torch.Tensor
    prompt: str
    answer: str


@dataclass(frozen=True)
class Question:
    """A picture, uint8 (3, height, width), and what is asked of it; an empty prompt asks for a plain caption."""

    picture: torch.Tensor
    prompt: str
    examples: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """How a text is chosen: greedily at temperature 0, else drawn ``candidates`` times from the most probable tokens that make
    up ``top_p``, at most ``max_tokens`` of them."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    candidates: int = 1


@dataclass(frozen=True)
class Said:
    """One text. ``tokens`` are those that were generated, the one that ends the text included; ``logprob`` is the mean of
    their natural logarithms of probability at temperature 1, None where the engine does not tell it."""

    text: str
    tokens: int
    logprob: float | None
    finish: Finish
    prompt_tokens: int = 0
    """Of the question with its picture, where they are paid for."""


class Unanswerable(Exception):
    """A question that an engine cannot be asked: its prompt is too long, its picture is of no use."""


@dataclass(frozen=True)
class Prepared:
    """A question made ready on the CPU: for models of this machine tensors by name, each with a first axis that batches are
    joined along, and the ``length`` of its prompt in tokens."""

    inputs: Mapping[str, Any]
    length: int


class Generator(Protocol):
    """A model that writes texts about pictures."""

    @property
    def identity(self) -> GeneratorIdentity:
        """What decides its texts, but for prompts and decoding."""
        ...

    def prepare(self, question: Question) -> Prepared:
        """All that needs no accelerator; may be called from several threads at once. Raises `Unanswerable`."""
        ...

    def generate(self, batch: Sequence[Prepared], decoding: Decoding, seed: int) -> list[list[Said]]:
        """The candidates of every question of a batch; what is drawn is decided by ``seed`` and the batch."""
        ...

    def score(self, batch: Sequence[Prepared], choices: Sequence[str]) -> list[list[Said]]:
        """How probable each choice is as the whole answer to every question, the end of the text included. Prompts of a
        batch have one length."""
        ...
