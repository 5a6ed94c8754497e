"""What is counted and timed of units of texts, and adds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from clipmill.stage.units.sums import Sums


@dataclass
class TextSums(Sums):
    """``answered`` rows have ``texts``; ``seconds`` are wall seconds by step."""

    MADE: ClassVar[tuple[str, ...]] = ("answered",)
    REJECTED: ClassVar[tuple[str, ...]] = ("rejected_images", "rejected_texts")

    answered: int = 0
    texts: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cut: int = 0
    rejected_images: int = 0
    rejected_texts: int = 0
    without_image_column: int = 0
    generated_with: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
