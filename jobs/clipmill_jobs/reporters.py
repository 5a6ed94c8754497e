"""The reporters of a command: bars on a terminal, plain lines off it, JSON events where they are asked for.

Each tells a stream what a `Reporter` is told. `StderrReporter` holds what they have in common.
"""

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

from clipmill.core import log
from clipmill_jobs.pace import Pace

Clock = Callable[[], float]


class StderrReporter(ABC):
    """What the three have in common: the current words and paces, and when something was told last.

    Every method may be called from any thread.
    """

    silence_seconds = 10.0
    """After so long without a word the current one is told again."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.RLock()
        self._paces: dict[str, Pace] = {}
        self._ended: dict[str, tuple[int, int | None, str]] = {}
        self._doing: tuple[str, str] | None = None
        self._held: list[tuple[str, str]] | None = None
        self._since = self._told = self._created = clock()

    def hold(self) -> None:
        """Keeps messages back until `release` or progress: where a command fails at once, that is all that is told."""
        self._held = []

    def release(self) -> None:
        """Tells the messages that were kept back, and later ones at once."""
        with self._lock:
            held, self._held = self._held or [], None
            for stage, text in held:
                self._say(stage, text)

    def speak_up(self, stage: str, text: str) -> None:
        """Tells what was kept back, and this where nothing at all was told before."""
        with self._lock:
            if self._told == self._created:
                self.message(stage, text)
            self.release()

    def message(self, stage: str, text: str) -> None:
        """What ``stage`` is doing now."""
        with self._lock:
            self.doing(stage, text)
            if self._held is None:
                self._say(stage, text)
            else:
                self._held.append((stage, text))

    def doing(self, stage: str, text: str) -> None:
        """What ``stage`` is doing now, where that was told elsewhere: only the heartbeat tells it."""
        with self._lock:
            self._doing, self._since = (stage, text), self._clock()
            self._told = self._since

    def rest(self) -> None:
        """Nothing is being done from now on: what was kept back is told, and the heartbeat tells nothing."""
        with self._lock:
            self.release()
            self._doing = None

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` are finished, over all starts of the stage; the first call says what earlier ones did."""
        with self._lock:
            if self._ended.get(stage) == (done, total, unit):
                return  # the end of it was told already
            self.release()
            pace = self._paces.get(stage)
            if pace is None or (pace.unit, pace.total) != (unit, total):
                self.finish(stage)
                now = self._clock()
                pace = self._paces[stage] = Pace(unit, total, done, now, done, now)
                self._begin(stage, pace)
            if done != pace.done:
                pace.done, pace.moved = done, self._clock()
            self._advance(stage, pace)
            if pace.finished:
                self.finish(stage)
                self._ended[stage] = done, total, unit

    def finish(self, stage: str) -> None:
        """Tells the last of a stage's progress, which ends here."""
        with self._lock:
            pace = self._paces.pop(stage, None)
            if pace is not None:
                self._end(stage, pace)
                self._told = self._since = self._clock()

    def text(self, text: str) -> None:
        """A line that belongs to no stage: a notice, a failure."""
        with self._lock:
            self._write(text)

    def beat(self) -> None:
        """Says again what is being done, where nothing has been told for a while; called every second."""
        with self._lock:
            if self._clock() - self._told >= self.silence_seconds:
                self._again()

    def close(self) -> None:
        """Ends what is still open; a reporter that is closed may still be told something."""
        with self._lock:
            for stage in list(self._paces):
                self.finish(stage)

    def _again(self) -> None:
        if self._doing is not None:
            stage, text = self._doing
            self._retell(stage, text, round(self._clock() - self._since))

    def _write(self, line: str) -> None:
        self._told = self._clock()
        with suppress(OSError, ValueError):  # where nobody reads stderr any more, the work goes on
            print(line, file=self._stream, flush=True)

    @abstractmethod
    def _say(self, stage: str, text: str) -> None:
        """Writes what a stage is doing."""

    @abstractmethod
    def _retell(self, stage: str, text: str, seconds: int) -> None:
        """Writes again what a stage has been doing for so many seconds."""

    @abstractmethod
    def _begin(self, stage: str, pace: Pace) -> None:
        """Shows the first progress of a stage."""

    @abstractmethod
    def _advance(self, stage: str, pace: Pace) -> None:
        """Shows more of it."""

    @abstractmethod
    def _end(self, stage: str, pace: Pace) -> None:
        """Shows the last of it."""


class Lines(StderrReporter):
    """Off a terminal: plain lines, of progress one in ten seconds."""

    progress_seconds = 10.0

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._progress_told: dict[str, float] = {}

    def _say(self, stage: str, text: str) -> None:
        self._write(f"{stage}: {text}")

    def _retell(self, stage: str, text: str, seconds: int) -> None:
        self._write(f"{stage}: {text} ({seconds} s)")

    def _again(self) -> None:
        now = self._clock()
        for stage, pace in self._paces.items():
            self._progress_told[stage] = now
            self._write(f"{stage}: {pace.line(now)}")
        if all(pace.moved < self._since for pace in self._paces.values()):
            super()._again()

    def _begin(self, stage: str, pace: Pace) -> None:
        self._progress_told[stage] = pace.started
        if pace.base and pace.total and not pace.finished:
            self._write(f"{stage}: continuing, {pace.base:,} of {pace.total:,} {pace.unit} are done")

    def _advance(self, stage: str, pace: Pace) -> None:
        now = self._clock()
        if now - self._progress_told[stage] >= self.progress_seconds and not pace.finished:
            self._progress_told[stage] = now
            self._write(f"{stage}: {pace.line(now)}")

    def _end(self, stage: str, pace: Pace) -> None:
        told_before = self._progress_told[stage] > pace.started
        if pace.done > pace.base and (told_before or pace.total is not None):
            self._write(f"{stage}: {pace.line(self._clock())}")


class Bars(StderrReporter):
    """On a terminal: a bar a stage, and below them what is being done where there is no bar."""

    silence_seconds = 5.0

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._bars: dict[str, tqdm[Any]] = {}
        self._width: dict[str, Any] = {"dynamic_ncols": True} if _has_width(stream) else {"ncols": 80, "nrows": 20}
        self._status: tqdm[Any] | None = None

    def close(self) -> None:
        """Ends the bars, and takes the words below them away."""
        with self._lock:
            super().close()
            self._no_status()

    def doing(self, stage: str, text: str) -> None:
        """As of every reporter; the words below the bars go."""
        with self._lock:
            self._no_status()
            super().doing(stage, text)

    def _write(self, line: str) -> None:
        self._no_status()
        self._told = self._clock()
        with suppress(OSError, ValueError):
            tqdm.write(line, file=self._stream)

    def _say(self, stage: str, text: str) -> None:
        self._write(f"{stage}: {text}")

    def _again(self) -> None:
        for bar in self._bars.values():
            bar.refresh()
        if not self._bars:
            super()._again()

    def _retell(self, stage: str, text: str, seconds: int) -> None:
        if self._status is None:
            self._status = tqdm(bar_format="{desc}", file=self._stream, leave=False, **self._width)
        self._status.set_description_str(f"{stage}: {text} ({seconds} s)")

    def _no_status(self) -> None:
        if self._status is not None:
            self._status.close()
            self._status = None

    def _begin(self, stage: str, pace: Pace) -> None:
        self._no_status()
        self._bars[stage] = tqdm(
            total=pace.total,
            initial=pace.base,
            unit=pace.unit if pace.unit == "B" else f" {pace.unit}",
            unit_scale=pace.unit == "B",
            desc=stage,
            file=self._stream,
            smoothing=0.1,
            **self._width,
        )

    def _advance(self, stage: str, pace: Pace) -> None:
        bar = self._bars[stage]
        bar.update(pace.done - bar.n)

    def _end(self, stage: str, pace: Pace) -> None:
        self._bars.pop(stage).close()


def _has_width(stream: TextIO) -> bool:
    """Whether a terminal says how wide it is; some say 0, for which tqdm draws nothing."""
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


class Events(StderrReporter):
    """JSON: an event a message, and of progress one in five seconds. They go through the logger, as all events do."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._steps: dict[str, log.Steps] = {}

    def hold(self) -> None:
        """Does nothing: events are not for reading at a glance."""

    def _write(self, line: str) -> None:
        self._told = self._clock()
        log.emit("notice", message=line)

    def _say(self, stage: str, text: str) -> None:
        log.emit("stage", stage=stage, message=text)

    def _retell(self, stage: str, text: str, seconds: int) -> None:
        self._told = self._clock()
        log.emit("stage", stage=stage, message=text, seconds=seconds)

    def _begin(self, stage: str, pace: Pace) -> None:
        self._steps[stage] = log.Steps("progress")
        if pace.base:
            log.emit("continued", stage=stage, total=pace.total, unit=pace.unit, done=pace.base)

    def _advance(self, stage: str, pace: Pace) -> None:
        if pace.done > pace.base:
            self._steps[stage].note(stage=stage, total=pace.total, unit=pace.unit, done=pace.done)

    def _end(self, stage: str, pace: Pace) -> None:
        self._steps.pop(stage).end()
