"""What is counted and timed of units, and adds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmill.embedding.unit import EmbeddedUnit

_EXTREME: dict[str, Any] = {"encoding_from": min, "encoding_until": max, "least_cosine": min}
"""What does not add up: of these the least or greatest is kept."""


@dataclass
class Statistics:
    """What was counted and timed over some units; sums of them are of the same kind."""

    rows: int = 0
    images: int = 0
    captions: int = 0
    rejected_images: int = 0
    rejected_captions: int = 0
    without_image_column: int = 0
    encoded_with: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    captions_by_file: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    encoding_from: float | None = None
    """When the first of these units began to be encoded, in seconds since 1970; ``encoding_until``: when the last ended."""
    encoding_until: float | None = None
    compared: int = 0
    """Pictures that were encoded in float32 too; ``cosines`` is the sum of their cosines with it."""
    cosines: float = 0.0
    least_cosine: float | None = None

    def add(self, other: Statistics) -> None:
        """Adds another sum to this one."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif name in _EXTREME:
                known = [number for number in (getattr(self, name), value) if number is not None]
                setattr(self, name, _EXTREME[name](known, default=None))
            else:
                setattr(self, name, getattr(self, name) + value)

    @staticmethod
    def of(unit: EmbeddedUnit, rows: int) -> Statistics:
        """The figures of one unit of ``rows`` input rows."""
        kinds = Counter(unit.rejected.column("kind").to_pylist())
        return Statistics(
            rows=rows,
            images=unit.images.num_rows,
            captions=unit.captions.num_rows,
            rejected_images=kinds["image"],
            rejected_captions=kinds["caption"],
            without_image_column=rows - unit.images.num_rows - kinds["image"],
            reasons=unit.reasons,
            captions_by_file=Counter({str(ordinal): count for ordinal, count in unit.captions_by_file.items()}),
            seconds=Counter(unit.seconds),
        )

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Statistics:
        """From what `vars` of one gave, after a way through JSON."""
        counted: dict[str, Any] = {
            key: Counter(value) if isinstance(value, dict) else value for key, value in values.items()
        }
        return Statistics(**counted)
