"""Watching long work: workers report what they begin and finish, the driver shows it and notices when nothing moves."""

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
from clipmill.engine.cluster import Cluster, cause_of

_POLL_SECONDS = 0.5
_STOP_SECONDS = 12.0
"""For a run that was told to stop: it hears of that when something ends or after some seconds (`clipmill.engine.stop`)."""


@dataclass
class Reported:
    """What workers reported since they were last asked. ``counts`` is what they say of the units, summed;
    ``deaths`` how often one and the same encoder died while it loaded the model, since any last succeeded; ``loaded`` is
    whether any has in this run."""

    units: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    signs: int = 0
    deaths: int = 0
    loaded: bool = True

    @property
    def anything(self) -> bool:
        return bool(self.units or self.signs)


class Tally:
    """Gathers what workers report, as an actor: one a run."""

    def __init__(self) -> None:
        self._reported = Reported()
        self._begun: dict[int, tuple[str, int]] = {}
        self._done = bytearray()
        self._starts: Counter[str] = Counter()
        self._loaded = False

    def starting(self, encoder: str) -> None:
        """An encoder begins to load the model. One that was doing so already has died of it, and was started again."""
        self._starts[encoder] += 1

    def started(self) -> None:
        """An encoder is ready."""
        self._starts.clear()
        self._loaded = True
        self._reported.signs += 1

    def begun(self, unit: int, doing: str) -> None:
        """A worker began with a unit. What it is doing when it dies can be told only by what it said before."""
        before, times = self._begun.get(unit, ("", 0))
        self._begun[unit] = (doing, times + 1 if before == doing else 1)

    def finished(self, unit: int, counts: dict[str, int]) -> None:
        """A unit was committed; one that is told again, since its task was retried, counts once."""
        self._begun.pop(unit, None)
        self._done.extend(bytes(max(0, unit + 1 - len(self._done))))
        if self._done[unit]:
            return
        self._done[unit] = 1
        self._reported.units.append(unit)
        self._reported.counts.update(counts)

    def alive(self) -> None:
        """Something was done that is not a whole unit yet."""
        self._reported.signs += 1

    def take(self) -> Reported:
        """What was reported since this was last asked."""
        taken, self._reported = self._reported, Reported()
        taken.deaths, taken.loaded = max(self._starts.values(), default=1) - 1, self._loaded
        return taken

    def under_way(self) -> list[tuple[int, str, int]]:
        """Units begun and not finished: (unit, what was done with it, how often that was begun), most often first."""
        begun = [(unit, doing, times) for unit, (doing, times) in self._begun.items()]
        return sorted(begun, key=lambda one: (-one[2], one[0]))


def start_tally() -> Any:
    """A handle to a new tally on the driver's node, which workers may be given."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Tally)
    return actor.options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


def units_under_way(tally: Any) -> list[tuple[int, str, int]]:
    """As `Tally.under_way`; nothing where the tally cannot be asked."""
    try:
        found: list[tuple[int, str, int]] = ray.get(tally.under_way.remote(), timeout=10)
    except ray.exceptions.RayError:
        return []
    return found


def watched(
    work: Callable[[], Any],
    stop: Callable[[], None],
    tally: Any,
    on_report: Callable[[Reported], None],
    patience: "Patience",
    waiting_for: Callable[[], str],
) -> Any:
    """The result of ``work``, run in a thread, while what the tally takes in goes to ``on_report``.

    Raises what ``work`` raises; KeyboardInterrupt on Ctrl-C, Terminated on SIGTERM; what ``on_report`` raises, and
    RunFailed when nothing at all is reported for as long as ``patience`` allows. Of the last two, ``stop`` tells the work
    to end; where it does not, the process can only be left (``work_goes_on``).
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
    try:
        with noted_signals() as stop_if_told:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                stop_if_told()
                if _pass_on(tally, on_report):
                    moved = time.monotonic()
                still = time.monotonic() - moved
                if patience.ends(still):
                    raise stalled(patience.spent(still), waiting_for())
    except Exception as error:
        told = cause_of(error, "watching the workers")
        stop()
        thread.join(_STOP_SECONDS)
        told.work_goes_on = thread.is_alive()
        raise told from error
    _pass_on(tally, on_report)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


@dataclass
class Patience:
    """How long nothing may move: ``stall_timeout`` seconds, and ``placing`` more while nodes are on their way or, as
    ``unplaced`` says, no encoder has been placed yet. What waits for a machine does not stall."""

    stall_timeout: float
    placing: float = 0.0
    unplaced: bool = False

    @classmethod
    def of(cls, cluster: Cluster, settings: ClusterSettings) -> "Patience":
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


def _pass_on(tally: Any, on_report: Callable[[Reported], None]) -> bool:
    """Whether anything was reported. A tally that is being restarted has nothing to say."""
    try:
        reported = ray.get(tally.take.remote(), timeout=10)
    except ray.exceptions.RayError:
        return False
    on_report(reported)
    return bool(reported.anything)
