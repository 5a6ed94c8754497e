"""A run's units in slices, each an execution of Ray Data of its own: several at a time, each with its share of the cluster.

Ray Data's driver keeps some 40 KB of each unit for as long as its execution lasts, and takes some 40 ms of a core for each.
So a run of many units is cut, and each slice is driven by an actor on any node, whose memory is given back at its end.
This process holds no more of a unit than its place in an array. One slice is what a laptop runs: it is driven here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

import numpy as np
import ray
from numpy.typing import NDArray

from clipmill.core.errors import ClipmillError
from clipmill.engine.cluster import cause_of
from clipmill.engine.slice_driver import Graph, SliceDriver
from clipmill.engine.watch import Patience, Reported, noted_signals, stalled
from clipmill.source.grouping import files_of, slices
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.units.layout import AnySums

MOST_UNITS = 100_000
"""Of a slice: some 4 GB of its driver's memory."""
LEAST_UNITS = 5_000
"""Of a slice, where there are several: some minutes of the encoders that one driver feeds, which load the model for it."""
ENCODERS_ON_GPUS, ENCODERS_ON_CPUS = 2, 32
"""That one driver feeds: a GPU takes up to twelve units a second, a core one at most, at 40 ms of the driver's each."""
_POLL_SECONDS = 0.5
ASK_SECONDS = 3.0
"""Between two questions to an actor: it is told of no more, however many units there are."""
_STOP_SECONDS = 12.0
"""For an execution that was told to stop, which hears of it when something ends or after some seconds."""
_TRIES = 3
"""Of a slice whose driver is lost with its node, without a unit that was committed in between."""


@dataclass(frozen=True)
class Slices:
    """How a run's units are cut, and how many slices are driven at a time, each by an actor unless there is only one."""

    slices: list[slice]
    at_once: int


def shares(encoders: int, at_once: int) -> list[int]:
    """How many encoders each of the slices gets that are driven at a time."""
    return [max(1, encoders // at_once + (at < encoders % at_once)) for at in range(at_once)]


def cut(units: Units, inputs: Sequence[InputFile], *, encoders: int, on_gpus: bool, drivers: int = 0) -> Slices:
    """Slices for so many encoders. ``drivers`` sets how many are driven at a time, whatever their size; 0 chooses."""
    feeds = ENCODERS_ON_GPUS if on_gpus else ENCODERS_ON_CPUS
    at_once = min(encoders, drivers) if drivers else max(1, -(-encoders // feeds))
    # Twice as many slices as drivers even out what some take longer, where slices are large enough to be worth a start.
    share = -(-len(units) // (at_once if drivers else 2 * at_once))
    least = 1 if drivers else LEAST_UNITS
    most = MOST_UNITS if at_once == 1 else min(MOST_UNITS, max(least, share))
    found = slices(units, inputs, most)
    return Slices(found, min(at_once, len(found)))


Told = Callable[[Reported], object]


@dataclass
class SliceRun(Generic[AnySums]):
    """Units being done in slices. ``graphs`` are those of the slices that are driven at a time, each with its share of the
    cluster. ``told`` is given what workers report, summed over slices; ``waiting_for`` says what is waited for when nothing
    moves."""

    graphs: Sequence[Graph[AnySums]]
    sums: type[AnySums]
    units: Units
    inputs: Sequence[InputFile]
    cut: Slices
    tally: Any
    patience: Patience
    told: Told
    waiting_for: Callable[[], str]
    total: AnySums = field(init=False)

    def run(self) -> AnySums:
        """Does all units; returns their sums.

        Raises what a slice raised for good; KeyboardInterrupt on Ctrl-C, Terminated on SIGTERM; what ``told`` raises, and
        RunFailed when nothing at all is reported for as long as ``patience`` allows. The others are stopped then; where one
        that is driven here does not stop, the process can only be left (``work_goes_on``).
        """
        self.total = self.sums()
        self._inputs = {file.ordinal: file for file in self.inputs}
        self._done = np.zeros(len(self.units), np.bool_)
        waiting, free = deque(self.cut.slices), deque(self.graphs)
        under_way: list[_Slice] = []
        moved = time.monotonic()
        try:
            with noted_signals() as stop_if_told:
                while waiting or under_way:
                    stop_if_told()
                    while waiting and free:
                        under_way.append(self._start(waiting.popleft(), free.popleft()))
                    ended = self._wait(under_way)
                    if self._pass_on(under_way):
                        moved = time.monotonic()
                    for one in ended:
                        under_way.remove(one)
                        if again := self._end(one):
                            under_way.append(again)
                        else:
                            free.append(one.graph)
                    still = time.monotonic() - moved
                    if self.patience.ends(still):
                        raise stalled(self.patience.spent(still), self.waiting_for())
        except Exception as error:
            told = cause_of(error, "watching the workers")
            stopped = [one.execution.stop() for one in under_way]
            told.work_goes_on = not all(stopped)
            raise told from error
        except BaseException:  # Ctrl-C: there is no waiting, and this process may live on
            for one in under_way:
                one.execution.abandon()
            raise
        return self.total

    def _start(self, run: slice, graph: Graph[AnySums], tries: int = 1) -> _Slice:
        at = np.arange(run.start, run.stop)
        at = at[~self._done[at]]
        units = self.units.take(at) if len(at) < run.stop - run.start else self.units[run]
        kind = _There if len(self.cut.slices) > 1 else _Here
        files = files_of(units, self._inputs)
        return _Slice(run, graph, at, kind(graph, self.sums, units, files, self.tally), tries)

    def _wait(self, under_way: Sequence[_Slice]) -> list[_Slice]:
        """Those that end within the next moment."""
        until = time.monotonic() + _POLL_SECONDS
        while True:
            ended = [one for one in under_way if one.execution.ended()]
            if ended or time.monotonic() > until:
                return ended
            time.sleep(_POLL_SECONDS if len(self.cut.slices) > 1 else _POLL_SECONDS / 10)

    def _pass_on(self, under_way: Sequence[_Slice]) -> bool:
        """Hands on what was reported; whether anything was."""
        reported = Reported(loaded=False)
        for one in under_way:
            reported.note(self._noted(one, one.execution.take()))
        self.told(reported)
        return reported.anything

    def _noted(self, one: _Slice, reported: Reported) -> Reported:
        """What a slice reported, once its units are known as done and counted."""
        if reported.sums is not None:
            self.total.add(reported.sums)
        if reported.units:
            one.tries = 1
            self._done[one.at[np.searchsorted(self.units.numbers[one.at], reported.units)]] = True
        return reported

    def _end(self, one: _Slice) -> _Slice | None:
        """Takes in the result of a slice; what takes its place where its driver was lost with its node."""
        try:
            self.told(self._noted(one, one.execution.result()))
        except ClipmillError:
            raise
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            if one.tries >= _TRIES:
                raise cause_of(error, f"driving a slice of {len(one.at):,} units, tried {_TRIES} times,") from error
            return None if self._done[one.at].all() else self._start(one.run, one.graph, one.tries + 1)
        return None


@dataclass
class _Slice:
    """One that is under way: ``run`` of the units, of which those ``at`` were left when it began."""

    run: slice
    graph: Graph[Any]
    at: NDArray[np.int64]
    execution: _Execution
    tries: int = 1


class _Execution(Protocol):
    """An execution under way."""

    def take(self) -> Reported:
        """What was reported since this was last asked."""

    def ended(self) -> bool:
        """Whether it is over, for better or worse."""

    def result(self) -> Reported:
        """What was not reported yet of one that has ended. Raises what it raised."""

    def stop(self) -> bool:
        """Ends it; whether it has ended."""

    def abandon(self) -> None:
        """As `stop`, without waiting."""


class _Here:
    """An execution that a thread of this process drives."""

    def __init__(
        self, graph: Graph[Any], sums: type[Any], units: Units, files: Sequence[InputFile], tally: Any
    ) -> None:
        self._driver = SliceDriver(graph, sums, tally)
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._driver.run(units, files)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="slice", daemon=True)
        self._thread.start()

    def take(self) -> Reported:
        return self._driver.take()

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Reported:
        if self._error is not None:
            raise self._error
        return self.take()

    def stop(self) -> bool:
        self._driver.stop()
        self._thread.join(_STOP_SECONDS)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        self._driver.stop()


class _There:
    """An execution that an actor drives, on whichever node. At most one question to it is open at a time."""

    def __init__(
        self, graph: Graph[Any], sums: type[Any], units: Units, files: Sequence[InputFile], tally: Any
    ) -> None:
        actor: Any = ray.remote(SliceDriver)
        self._driver = actor.options(num_cpus=0, max_concurrency=2, scheduling_strategy="SPREAD").remote(graph, sums)
        self._ends = self._driver.run.remote(units, files)
        self._asked: Any = None
        self._answered = 0.0
        self._loaded = False

    def take(self) -> Reported:
        if self._asked is None and time.monotonic() - self._answered > ASK_SECONDS:
            self._asked = self._driver.take.remote()
        if self._asked is None or not ray.wait([self._asked], timeout=0)[0]:
            return Reported(loaded=self._loaded)
        asked, self._asked, self._answered = self._asked, None, time.monotonic()
        try:
            reported: Reported = ray.get(asked)
        except ray.exceptions.RayError:
            return Reported(loaded=self._loaded)  # its end tells why
        self._loaded = reported.loaded
        return reported

    def ended(self) -> bool:
        return bool(ray.wait([self._ends], timeout=0)[0])

    def result(self) -> Reported:
        try:
            ray.get(self._ends)
            asked = [self._asked] if self._asked is not None else []
            last = Reported(loaded=self._loaded)
            for reported in ray.get([*asked, self._driver.take.remote()]):
                last.note(reported)
            return last
        except ray.exceptions.RayTaskError as error:
            raise cause_of(error, "driving a slice") from error
        finally:
            ray.kill(self._driver)

    def stop(self) -> bool:
        self.abandon()
        return True

    def abandon(self) -> None:
        ray.kill(self._driver)
