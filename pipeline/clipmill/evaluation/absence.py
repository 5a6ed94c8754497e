"""What was not measured, and why: a part of every result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Absence:
    """Something a reader would look for that was not measured, and why."""

    what: str
    why: str
