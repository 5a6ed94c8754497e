"""Telling whoever started a long piece of work how it goes: one protocol, handed in from outside. No printing here."""

import threading
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


class Tally:
    """Counts what is done of ``total`` ``unit`` of a stage, and tells a reporter. Threads may share one.

    ``done`` were finished by earlier starts.
    """

    def __init__(self, reporter: Reporter, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        self._reporter = reporter
        self._stage, self._total, self._unit, self._done = stage, total, unit, done
        self._lock = threading.Lock()
        self.add(0)

    def add(self, done: int) -> None:
        """So many more are done."""
        with self._lock:
            self._done += done
            self._reporter.progress(self._stage, self._done, self._total, self._unit)
