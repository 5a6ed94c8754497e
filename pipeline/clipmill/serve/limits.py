"""What one request may ask for, and how many are answered at once."""

import os
from dataclasses import dataclass, field


def cores() -> int:
    """Those that this process may run on: containers and schedulers often give fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Limits:
    """Bounds of the service. ``workers`` answers are computed at a time, ``waiting`` more requests wait for one of them, and
    any further one is told to come back."""

    k: int = 1000
    body_bytes: int = 16_000_000
    picture_pixels: int = 50_000_000
    text_letters: int = 1000
    """Tokenizers take more than linear time for one long word."""
    parts: int = 16
    vectors: int = 1024
    """Queries of one binary request."""
    where_letters: int = 2000
    where_seconds: float = 5.0
    workers: int = field(default_factory=cores)
    waiting: int = 64
