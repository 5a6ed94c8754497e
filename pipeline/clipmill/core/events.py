"""What happens in a run, as one JSON line an event on stderr, for machines that gather logs. Off unless it is asked for.

CLIPMILL_LOG=json switches it on, for the process and those that it starts.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

VARIABLE = "CLIPMILL_LOG"
_PROGRESS_SECONDS = 5.0


@contextmanager
def switched_on() -> Iterator[None]:
    """Events are written as JSON for the length of the block."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "json"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def as_json() -> bool:
    """Whether stderr is to hold JSON and nothing else of ours."""
    return os.environ.get(VARIABLE, "").strip().lower() == "json"


def emit(event: str, **fields: Any) -> None:
    """One line, where that is switched on: ``time`` (UTC), ``event`` and the fields."""
    if not as_json():
        return
    document = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **fields}
    with suppress(OSError, ValueError):  # where nobody reads stderr any more, the work goes on
        print(json.dumps(document, default=str), file=sys.stderr, flush=True)


class Steps:
    """Events about one thing that goes on, at most one in a few seconds; the last is written when it ends."""

    def __init__(self, event: str, seconds: float = _PROGRESS_SECONDS) -> None:
        self._event = event
        self._seconds = seconds
        self._told = time.monotonic()
        self._waiting: dict[str, Any] | None = None

    def note(self, **fields: Any) -> None:
        """What is to be told; soon, unless something newer comes first."""
        self._waiting = fields
        if time.monotonic() - self._told >= self._seconds:
            self.end()

    def end(self) -> None:
        """Tells what has not been told yet."""
        if self._waiting is not None:
            emit(self._event, **self._waiting)
            self._waiting, self._told = None, time.monotonic()
