"""Watching long work: workers report what they finish, the driver shows it and notices when nothing moves."""

import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from pipeline.errors import RunFailed

_POLL_SECONDS = 0.5


class Tally:
    """Adds up what workers report. One a run, as an actor; it holds one number."""

    def __init__(self) -> None:
        self._done = 0

    def add(self, done: int) -> None:
        """Reports so many more finished."""
        self._done += done

    def total(self) -> int:
        """All that was reported."""
        return self._done


def start_tally() -> Any:
    """A handle to a new tally, which workers may be given."""
    return ray.remote(num_cpus=0, max_restarts=-1)(Tally).remote()


def watched(
    work: Callable[[], Any], tally: Any, on_progress: Callable[[int], None], stall_seconds: float, waiting_for: str
) -> Any:
    """The result of ``work``, run in a thread while the tally's growth goes to ``on_progress``.

    Raises what ``work`` raises, and RunFailed when the tally stands still for ``stall_seconds``.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name="work", daemon=True)
    thread.start()
    seen, moved = 0, time.monotonic()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        total = _total(tally, seen)
        if total != seen:
            on_progress(total - seen)
            seen, moved = total, time.monotonic()
        if time.monotonic() - moved > stall_seconds:
            raise RunFailed(
                f"no progress for {stall_seconds:.0f} s while waiting for {waiting_for}; what is done is kept: "
                "run the same command again to continue, with more memory or CPUs if it stalls again"
            )
    total = _total(tally, seen)
    on_progress(total - seen)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def _total(tally: Any, seen: int) -> int:
    try:
        total: int = ray.get(tally.total.remote(), timeout=10)
    except ray.exceptions.RayError:
        return seen
    return max(total, seen)
