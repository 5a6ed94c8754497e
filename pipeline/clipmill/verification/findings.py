"""What verification returns: every fault in words, what was counted on the way, and what was not looked at."""

from dataclasses import dataclass, field
from typing import Any

_MOST_SHOWN = 100


@dataclass
class Findings:
    """Faults make a dataset unfit; notes are legal but worth knowing; ``unchecked`` names what was left out."""

    kind: str
    location: str
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    hidden: int = 0

    @property
    def whole(self) -> bool:
        return not self.faults

    def fault(self, text: str) -> None:
        """Adds a fault; of very many only the number is kept."""
        if len(self.faults) < _MOST_SHOWN:
            self.faults.append(text)
        else:
            self.hidden += 1

    def count(self, what: str, number: int) -> None:
        """Adds to what was looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def part(self) -> "Findings":
        """Empty findings about the same dataset, for a thread to fill and `add` to take."""
        return Findings(self.kind, self.location)

    def add(self, other: "Findings") -> None:
        """All that was found elsewhere, after what is here."""
        for text in other.faults:
            self.fault(text)
        self.hidden += other.hidden
        self.notes += other.notes
        self.unchecked += other.unchecked
        for what, number in other.checked.items():
            self.count(what, number)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**vars(self), "whole": self.whole}
