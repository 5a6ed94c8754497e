"""Telling whoever started a long piece of work how it goes: one protocol, handed in from outside. No printing here."""

from typing import Protocol


class Reporter(Protocol):
    """Is told what a stage is doing and how far it is. Implementations return at once and never raise."""

    def message(self, stage: str, text: str) -> None:
        """What ``stage`` ("embed") is doing now, in one sentence without a full stop."""

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` ``unit`` ("rows") are finished, counted over all starts of the stage; ``total`` is None
        where it is not known."""


class Silent:
    """A reporter for work that nobody watches."""

    def message(self, stage: str, text: str) -> None:
        """Says nothing."""

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """Says nothing."""
