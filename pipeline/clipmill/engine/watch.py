"""Watching long work: workers report what they begin and finish, the driver shows it and notices when nothing moves."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from clipmill.core.errors import RunFailed, Terminated
from clipmill.core.settings import ClusterSettings
from clipmill.engine.autoscaler import outlook
from clipmill.engine.cluster import Cluster
from clipmill.stage.units.sums import Sums

_SIGN_SECONDS = 1.0


@dataclass
class Reported:
    """What workers reported since they were last asked: ``units`` that were committed, ``counts`` what is said of them, summed;
    ``signs`` of life; ``deaths`` how often one and the same encoder died while it loaded the model, since any last succeeded;
    ``loaded`` is whether any has in this run; ``sums`` what was counted and timed of the units, where there are any."""

    units: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    signs: int = 0
    deaths: int = 0
    loaded: bool = True
    sums: Sums | None = None

    @property
    def anything(self) -> bool:
        return bool(self.units or self.signs)

    def note(self, other: Reported) -> None:
        """Adds what others reported."""
        self.units += other.units
        self.counts.update(other.counts)
        self.signs += other.signs
        self.deaths = max(self.deaths, other.deaths)
        self.loaded = self.loaded or other.loaded
        if self.sums is None:
            self.sums = other.sums
        elif other.sums is not None:
            self.sums.add(other.sums)


class Tally:
    """Gathers signs of life of workers, as an actor. It is told of processes and of time that passes, never of single units:
    so it has as little to do for a billion rows as for a thousand."""

    def __init__(self) -> None:
        self._signs = 0
        self._starts: Counter[str] = Counter()
        self._loaded = False

    def starting(self, encoder: str) -> None:
        """An encoder begins to load the model. One that was doing so already has died of it, and was started again."""
        self._starts[encoder] += 1

    def started(self) -> None:
        """An encoder is ready."""
        self._starts.clear()
        self._loaded = True
        self._signs += 1

    def alive(self) -> None:
        """Something was done that is not a whole unit yet."""
        self._signs += 1

    def take(self) -> Reported:
        """What was reported since this was last asked."""
        signs, self._signs = self._signs, 0
        return Reported(signs=signs, deaths=max(self._starts.values(), default=1) - 1, loaded=self._loaded)


def start_tally() -> Any:
    """A handle to a new tally on the driver's node, which workers may be given."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Tally)
    return actor.options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


def signs_to(tally: Any, seconds: float = _SIGN_SECONDS) -> Callable[[], None]:
    """What tells a tally that a worker is moving: at once, then once in so many seconds at most."""
    told = 0.0

    def alive() -> None:
        nonlocal told
        if time.monotonic() - told > seconds:
            told = time.monotonic()
            tally.alive.remote()

    return alive


@dataclass
class Patience:
    """How long nothing may move: ``stall_timeout`` seconds, and ``placing`` more while nodes are on their way or, as
    ``unplaced`` says, no encoder has been placed yet. What waits for a machine does not stall."""

    stall_timeout: float
    placing: float = 0.0
    unplaced: bool = False

    @classmethod
    def of(cls, cluster: Cluster, settings: ClusterSettings) -> Patience:
        """That of a run on this cluster: one of its own brings no nodes."""
        return cls(settings.stall_timeout, 0.0 if cluster.own else settings.wait_for_gpu)

    def ends(self, still: float) -> bool:
        """Whether so many seconds without a sign of life are too many."""
        if still <= self.stall_timeout:
            return False
        return still > self.stall_timeout + self.placing or not (self.unplaced or outlook().coming)

    def spent(self, still: float) -> float:
        """How long was waited in all, once it ended."""
        return self.stall_timeout + (self.placing if still > self.stall_timeout + self.placing else 0)


def stalled(seconds: float, waiting_for: str) -> RunFailed:
    """The error of a run in which nothing moves."""
    return RunFailed(
        f"nothing moved for {seconds:g} s while waiting for {waiting_for}; what is done is kept: run the same command "
        "again to continue, with more memory or CPUs if it stalls again (--stall-timeout sets how long to wait)"
    )


@contextmanager
def noted_signals() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM are noted instead of breaking into whatever runs: inside a call of Ray they can end the process
    at once. What it yields is to be called often; it raises KeyboardInterrupt or Terminated once one was noted."""
    noted: list[int] = []

    def stop_if_told() -> None:
        if noted:
            raise Terminated if noted[0] == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_told
        return
    before = {
        number: signal.signal(number, lambda caught, frame: noted.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop_if_told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
