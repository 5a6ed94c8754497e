"""What is counted and timed of units whose texts are filtered, and adds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from clipmill.stage.units.sums import Sums


@dataclass
class CapfiltSums(Sums):
    """As `clipmill.core.text_manifests.CaptionedCounts`; ``dropped`` are texts by why, ``seconds`` wall seconds by step."""

    MADE: ClassVar[tuple[str, ...]] = ("captioned",)
    REJECTED: ClassVar[tuple[str, ...]] = ("unreadable",)

    captioned: int = 0
    originals: int = 0
    generated: int = 0
    kept_originals: int = 0
    kept_generated: int = 0
    cut: int = 0
    unreadable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    scored_with: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
