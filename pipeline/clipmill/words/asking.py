"""What is asked of every picture, and how the answer is chosen: fixed before any picture is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.settings import AskSettings, CaptionSettings, GeneratorSettings
from clipmill.words.protocol import Decoding, Said
from clipmill.words.styles import Style


@dataclass(frozen=True)
class Asking:
    """The prompt of every picture, or the column that has it (``prompt`` None). Of ``choices`` the most probable is the answer,
    with ``by_mean`` by its mean over tokens; captions are made to fit their ``style``."""

    prompt: str | None
    decoding: Decoding
    choices: tuple[str, ...] = ()
    by_mean: bool = False
    style: Style | None = None

    @staticmethod
    def of(settings: GeneratorSettings, prompts: Prompts) -> Asking:
        """As the settings say. Raises UserError for settings that contradict each other."""
        candidates = settings.candidates if isinstance(settings, CaptionSettings) else 1
        decoding = Decoding(settings.max_tokens, settings.temperature, settings.top_p, candidates)
        if isinstance(settings, CaptionSettings):
            prompt = prompts.of_style(settings.style) if settings.prompt is None else settings.prompt
            return Asking(prompt, decoding, style=settings.style)
        assert isinstance(settings, AskSettings)
        question = None if settings.question is None else prompts.of_question(settings.question)
        return Asking(question, decoding, tuple(settings.choices or ()), settings.length_normalise)

    @property
    def each(self) -> int:
        """What is asked of an engine about every picture, where it is asked for one thing at a time."""
        return len(self.choices) or self.decoding.candidates

    def best(self, scored: Sequence[Said]) -> Said:
        """The most probable choice; of several the first."""
        weight = (lambda one: 1) if self.by_mean else (lambda one: one.tokens)
        return max(scored, key=lambda one: (one.logprob if one.logprob is not None else -math.inf) * weight(one))


@dataclass(frozen=True)
class Prompts:
    """How a kind of model is asked: a prompt for each style of caption, and one around a question (``{}``)."""

    styles: dict[Style, str]
    question: str = "{}"

    def of_style(self, style: Style) -> str:
        """What asks for a caption."""
        return self.styles[style]

    def of_question(self, question: str) -> str:
        """What asks a question."""
        return self.question.replace("{}", question)


def check_asking(settings: GeneratorSettings) -> None:
    """Raises UserError for settings that contradict each other."""
    if isinstance(settings, CaptionSettings):
        if settings.candidates > 1 and settings.temperature == 0:
            raise UserError(
                f"--candidates {settings.candidates} would all be the same at --temperature 0: give one above it, such as 0.7"
            )
        return
    assert isinstance(settings, AskSettings)
    if (settings.question is None) == (settings.question_column is None):
        raise UserError(
            "give either --question or --question-column: what is asked of every picture, or where it stands"
        )
    if settings.question is not None and not settings.question.strip():
        raise UserError("--question is empty")
    if settings.choices is not None:
        _refuse_choices(settings.choices)


def _refuse_choices(choices: Sequence[str]) -> None:
    named = [choice.strip() for choice in choices]
    if len(named) < 2 or not all(named):
        raise UserError("--choices needs two answers or more, with commas between them: yes,no")
    if len(set(named)) < len(named):
        raise UserError("--choices has an answer twice")
