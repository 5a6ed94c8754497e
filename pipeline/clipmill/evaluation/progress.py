"""How measurements say how far they are, and why one was not made."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Progress = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]
"""Given a total and what is being done: a context whose value is called with the number of units just done."""


@contextmanager
def silent(total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Progress that nobody watches."""
    yield lambda done: None


@dataclass(frozen=True)
class Absence:
    """Something a reader would look for that was not measured, and why."""

    what: str
    why: str
