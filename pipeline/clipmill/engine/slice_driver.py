"""One execution of Ray Data, over a slice of a run's units, in whichever process: its driver's, or an actor's."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np
import ray

from clipmill.engine.beacons import left_anywhere, suspects
from clipmill.engine.cluster import cause_of
from clipmill.engine.stop import StopSwitch
from clipmill.engine.watch import Reported, start_tally
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.units.layout import AnySums


@dataclass(frozen=True)
class Committed(Generic[AnySums]):
    """A unit that was committed, the counts by which its run is followed, and what was counted and timed of it."""

    unit: int
    counts: dict[str, int]
    sums: AnySums


class Graph(Protocol[AnySums]):
    """What is done with units, as an execution of Ray Data. ``doing`` names it in messages ("embedding")."""

    doing: str

    def run(
        self, units: Units, inputs: Sequence[InputFile], tally: Any, switch: StopSwitch, token: str
    ) -> Iterator[Committed[AnySums]]:
        """Does it; yields what was committed. ``token`` is that of the execution (`clipmill.engine.beacons`)."""


class SliceDriver(Generic[AnySums]):
    """Drives one execution. `run` in one thread, while another asks what there is to report."""

    def __init__(self, graph: Graph[AnySums], sums: type[AnySums], tally: Any = None) -> None:
        self._graph = graph
        self._sums = sums
        self._tally = tally if tally is not None else start_tally()
        self._asked: Any = None
        self._lock = threading.Lock()
        self._units: list[int] = []
        self._counts: Counter[str] = Counter()
        self._unreported = sums()
        self._token = secrets.token_hex(8)
        self._loaded = False
        self._switch = StopSwitch()

    def run(self, units: Units, inputs: Sequence[InputFile]) -> None:
        """Does all units. Raises a ClipmillError that names the cause, and the rows where it came up."""
        try:
            for done in self._graph.run(units, inputs, self._tally, self._switch, self._token):
                with self._lock:
                    self._unreported.add(done.sums)
                    self._units.append(done.unit)
                    self._counts.update(done.counts)
        except Exception as error:  # one of ours too: Ray gives it the traceback of its worker
            raise cause_of(error, self._graph.doing + self._under_way(units, inputs)) from None

    def take(self) -> Reported:
        """What was committed since this was last asked, and what signs of life workers gave."""
        with self._lock:
            sums = self._unreported if self._units else None
            taken = Reported(self._units, self._counts, loaded=self._loaded, sums=sums)
            self._units, self._counts, self._unreported = [], Counter(), self._sums()
        if self._asked is None:
            self._asked = self._tally.take.remote()
        if ray.wait([self._asked], timeout=0)[0]:  # an answer that is late is taken in later, and not asked for again
            with suppress(ray.exceptions.RayError):  # a tally that is being restarted has nothing to say
                taken.note(ray.get(self._asked))
            self._asked = None
            self._loaded = taken.loaded
        return taken

    def stop(self) -> None:
        """Ends the execution at its next step."""
        self._switch.stop()

    def _under_way(self, units: Units, inputs: Sequence[InputFile]) -> str:
        """Where the work stands, in rows of files: the units that most workers died of, since one that kills its worker is
        begun again and again."""
        begun = suspects(left_anywhere(self._token))
        if not begun:
            return ""
        most = begun[0][2]
        paths = {file.ordinal: file.path for file in inputs}
        worst = [(unit, doing) for unit, doing, times in begun if times == most][:2]
        places = " or ".join(f"{doing} {_rows_of(units, unit, paths)}" for unit, doing in worst)
        return f" ({places}{f', tried {most} times' if most > 1 else ''})"


def _rows_of(units: Units, number: int, paths: dict[int, str]) -> str:
    """The rows of a unit in words."""
    unit = units[int(np.searchsorted(units.numbers, number))]
    spans = [f"rows {span.start} to {span.stop - 1} of {paths[span.ordinal]}" for span in unit.spans]
    return spans[0] if len(spans) == 1 else f"{spans[0]} and {len(spans) - 1} more runs of rows"
