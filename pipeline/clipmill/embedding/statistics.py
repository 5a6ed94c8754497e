"""What is counted and timed of units, and adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from clipmill.stage.units.sums import Sums

if TYPE_CHECKING:
    from clipmill.embedding.unit import EmbeddedUnit

ENCODING = "encoding_ms"
"""In the counts of a committed unit: milliseconds in which it was encoded."""


@dataclass
class Statistics(Sums):
    """What was counted and timed over some units of an embed run."""

    EXTREME: ClassVar[dict[str, Callable[..., Any]]] = {
        "encoding_from": min,
        "encoding_until": max,
        "least_cosine": min,
    }
    MADE: ClassVar[tuple[str, ...]] = ("images", "captions", "audio", "videos")
    REJECTED: ClassVar[tuple[str, ...]] = (
        "rejected_images",
        "rejected_captions",
        "rejected_audio",
        "rejected_videos",
    )

    images: int = 0
    captions: int = 0
    rejected_images: int = 0
    rejected_captions: int = 0
    without_image_column: int = 0
    audio: int = 0
    videos: int = 0
    rejected_audio: int = 0
    rejected_videos: int = 0
    kept_frames: int = 0
    truncated_captions: int = 0
    encoded_with: Counter[str] = field(default_factory=Counter)
    captions_by_file: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    encoding_from: float | None = None
    """When the first of these units began to be encoded, in seconds since 1970; ``encoding_until``: when the last ended."""
    encoding_until: float | None = None
    compared: int = 0
    """Pictures that were encoded in float32 too; ``cosines`` is the sum of their cosines with it."""
    cosines: float = 0.0
    least_cosine: float | None = None

    def counts(self) -> dict[str, int]:
        """As those of all sums, and the time of encoders in milliseconds."""
        encoding = sum(self.seconds[f"encode_{what}"] for what in ("images", "captions", "clips"))
        return {**super().counts(), ENCODING: round(1000 * encoding)}

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
            audio=unit.clips["audio"].num_rows if "audio" in unit.clips else 0,
            videos=len(unit.clips["videos"].column("row").unique()) if "videos" in unit.clips else 0,
            kept_frames=unit.clips["videos"].num_rows if "videos" in unit.clips else 0,
            truncated_captions=unit.truncated,
            rejected_audio=kinds["audio"],
            rejected_videos=kinds["video"],
            reasons=unit.reasons,
            captions_by_file=Counter({str(ordinal): count for ordinal, count in unit.captions_by_file.items()}),
            seconds=Counter(unit.seconds),
        )
