"""Tuning: the fastest of a grid of search parameters that reaches a target recall. Knows nothing of FAISS."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from clipmill.core.manifests import Interval

Parameters = tuple[int, int]
NEARLY = 1.5
"""Times that differ by no more may be in the other order when they are taken again."""


@dataclass(frozen=True)
class Measured:
    """What a search was seen to do with these parameters."""

    parameters: Parameters
    recall: Interval
    milliseconds: float


@dataclass(frozen=True)
class Tuning:
    """``feasible`` are the fastest that reach the target; ``best`` has the highest recall; ``measured`` is all that was."""

    feasible: list[Measured]
    best: Measured
    measured: list[Measured]

    @property
    def front(self) -> list[Measured]:
        """Points that no other beats in both recall and time, fastest first."""
        front: list[Measured] = []
        for point in sorted(self.measured, key=lambda point: (point.milliseconds, -point.recall.value)):
            if not front or point.recall.value > front[-1].recall.value:
                front.append(point)
        return front


@dataclass(frozen=True)
class Tuner:
    """Finds the fastest point whose recall is at least ``target`` at the low end of its interval.

    Recall and time grow with each of the two parameters, so the points that just reach the target lie on a staircase
    from (small first, large second) to (large first, small second). Its first step is found by bisection, and walking
    along it looks at no more than len(first) + len(second) points. To ``look`` tells the recall, and about the time. Of those
    that reach the target the fastest, up to ``finalists`` of nearly the same time, are measured, and judged by the median of
    ``repeats`` timings, since one timing on a shared machine means little. What is in ``looked_at`` and ``measured`` is not
    looked at or measured again, so that tuners of several targets can share it.
    """

    look: Callable[[Parameters], Measured]
    measure: Callable[[Parameters], Measured]
    target: float
    repeats: int = 3
    finalists: int = 3
    looked_at: dict[Parameters, Measured] = field(default_factory=dict)
    measured: dict[Parameters, Measured] = field(default_factory=dict)

    def reaches(self, point: Measured) -> bool:
        return point.recall.low >= self.target

    def run(self, first: Sequence[int], second: Sequence[int]) -> Tuning:
        """Tunes over the grid of ``first`` × ``second``, each in growing order."""
        start = bisect_left(first, True, key=lambda value: self.reaches(self._look((value, second[-1]))))
        if start == len(first):
            self._look((first[-1], second[-1]))
        fastest = float("inf")
        column = len(second) - 1
        for value in first[start:]:
            while column >= 0:
                point = self._look((value, second[column]))
                if not self.reaches(point):
                    break
                fastest = min(fastest, point.milliseconds)
                column -= 1
            if column < 0 or point.milliseconds > fastest:
                break
        feasible = self._finals()
        seen = list({**self.looked_at, **self.measured}.values())
        best = max(seen, key=lambda point: (point.recall.value, -point.milliseconds))
        if not feasible:
            best = self._measure(best.parameters)
        return Tuning(feasible, best, seen)

    def _look(self, parameters: Parameters) -> Measured:
        if parameters not in self.looked_at:
            self.looked_at[parameters] = self.look(parameters)
        return self.looked_at[parameters]

    def _measure(self, parameters: Parameters) -> Measured:
        if parameters not in self.measured:
            self.measured[parameters] = self.measure(parameters)
        return self.measured[parameters]

    def _finals(self) -> list[Measured]:
        """The fastest that reach the target, by the median of several timings."""
        finals: list[Measured] = []
        for found in sorted(filter(self.reaches, self.looked_at.values()), key=lambda point: point.milliseconds):
            if finals and found.milliseconds > NEARLY * finals[0].milliseconds:
                break
            point = self._measure(found.parameters)
            if self.reaches(point):
                again = (self.look(point.parameters).milliseconds for _ in range(self.repeats - 1))
                finals.append(Measured(point.parameters, point.recall, median_low([point.milliseconds, *again])))
            if len(finals) == self.finalists:
                break
        return sorted(finals, key=lambda point: point.milliseconds)
