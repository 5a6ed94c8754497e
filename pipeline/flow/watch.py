"""Watching long work: workers report what they finish, the driver shows it and notices when nothing moves."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import RunFailed

_POLL_SECONDS = 0.5


class Tally:
    """Gathers what workers report, as an actor: one a run."""

    def __init__(self) -> None:
        self._rows = 0
        self._units: list[int] = []
        self._signs = 0

    def finished(self, unit: int, rows: int) -> None:
        """A unit of so many rows was committed."""
        self._units.append(unit)
        self._rows += rows

    def alive(self) -> None:
        """Something was done that is not a whole unit yet."""
        self._signs += 1

    def take(self) -> tuple[int, list[int], int]:
        """Rows, units and signs of life since this was last asked."""
        taken = self._rows, self._units, self._signs
        self._rows, self._units, self._signs = 0, [], 0
        return taken


def start_tally() -> Any:
    """A handle to a new tally, which workers may be given."""
    return ray.remote(num_cpus=0, max_restarts=-1)(Tally).remote()


def watched(
    work: Callable[[], Any],
    tally: Any,
    on_rows: Callable[[int], None],
    on_units: Callable[[list[int]], None],
    stall_seconds: float,
    waiting_for: str,
) -> Any:
    """The result of ``work``, run in a thread, while what the tally takes in goes to ``on_rows`` and ``on_units``.

    Raises what ``work`` raises, KeyboardInterrupt on Ctrl-C, and RunFailed when nothing at all is reported for
    ``stall_seconds``.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name="work", daemon=True)
    thread.start()
    moved = time.monotonic()
    with noted_interrupts() as interrupted:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            if interrupted.is_set():
                raise KeyboardInterrupt
            if _pass_on(tally, on_rows, on_units):
                moved = time.monotonic()
            if time.monotonic() - moved > stall_seconds:
                raise RunFailed(
                    f"nothing moved for {stall_seconds:.0f} s while waiting for {waiting_for}; what is done is kept: run "
                    "the same command again to continue, with more memory or CPUs if it stalls again"
                )
    _pass_on(tally, on_rows, on_units)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


@contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets an event instead of breaking into whatever runs: inside a call of Ray it can end the process at once."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _pass_on(tally: Any, on_rows: Callable[[int], None], on_units: Callable[[list[int]], None]) -> bool:
    """Whether anything was reported. A tally that is being restarted has nothing to say."""
    try:
        rows, units, signs = ray.get(tally.take.remote(), timeout=10)
    except ray.exceptions.RayError:
        return False
    if units:
        on_rows(rows)
        on_units(units)
    return bool(rows or units or signs)
