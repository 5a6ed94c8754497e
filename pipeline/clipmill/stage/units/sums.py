"""What is counted of units, and adds up. Each stage over units has counts of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

Own = TypeVar("Own", bound="Sums")

REASON = "rejected: "
"""Before a reason in the counts that workers report."""


@dataclass
class Sums:
    """What was counted over some units; sums of them are of the same kind. ``reasons`` are rejects by their reason.

    Every field is a number, a `Counter`, or named in ``EXTREME``: of what does not add up, the least or the greatest is kept.
    """

    EXTREME: ClassVar[dict[str, Callable[..., Any]]] = {}
    MADE: ClassVar[tuple[str, ...]] = ()
    """The fields that count what became of items that were not rejected; ``REJECTED``: what counts the others."""
    REJECTED: ClassVar[tuple[str, ...]] = ()

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: Sums) -> None:
        """Adds another sum to this one."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif name in self.EXTREME:
                known = [number for number in (getattr(self, name), value) if number is not None]
                setattr(self, name, self.EXTREME[name](known, default=None))
            else:
                setattr(self, name, getattr(self, name) + value)

    def counts(self) -> dict[str, int]:
        """Rows and what became of them, rejects also by reason: that by which a run is followed."""
        reasons = {REASON + reason: count for reason, count in self.reasons.items()}
        return {**{name: getattr(self, name) for name in ("rows", *self.MADE, *self.REJECTED)}, **reasons}

    @classmethod
    def from_dict(cls: type[Own], values: dict[str, Any]) -> Own:
        """From what `vars` of one gave, after a way through JSON."""
        counted: dict[str, Any] = {
            key: Counter(value) if isinstance(value, dict) else value for key, value in values.items()
        }
        return cls(**counted)
