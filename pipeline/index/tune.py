"""Tuning: the fastest of a grid of search parameters that reaches a target recall. Knows nothing of FAISS."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.schemas import Interval

Parameters = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """What a search was seen to do with these parameters."""

    parameters: Parameters
    recall: Interval
    milliseconds: float


@dataclass(frozen=True)
class Tuning:
    """``feasible`` reach the target, fastest first; ``best`` has the highest recall; ``measured`` is all that was."""

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
    along it measures at most len(first) + len(second) points. ``measure`` runs one point; the few fastest are run
    ``repeats`` times and judged by their median time, since one timing on a shared machine means little. Points that are
    in ``seen`` are not run again to find the staircase, so that tuners of several targets can share it.
    """

    measure: Callable[[Parameters], Measured]
    target: float
    repeats: int = 3
    finalists: int = 3
    seen: dict[Parameters, Measured] = field(default_factory=dict)

    def reaches(self, point: Measured) -> bool:
        return point.recall.low >= self.target

    def run(self, first: Sequence[int], second: Sequence[int]) -> Tuning:
        """Tunes over the grid of ``first`` × ``second``, each in growing order."""

        def measure(parameters: Parameters) -> Measured:
            if parameters not in self.seen:
                self.seen[parameters] = self.measure(parameters)
            return self.seen[parameters]

        start = bisect_left(first, True, key=lambda value: self.reaches(measure((value, second[-1]))))
        if start == len(first):
            measure((first[-1], second[-1]))
        fastest = float("inf")
        column = len(second) - 1
        for value in first[start:]:
            while column >= 0:
                point = measure((value, second[column]))
                if not self.reaches(point):
                    break
                fastest = min(fastest, point.milliseconds)
                column -= 1
            if column < 0 or point.milliseconds > fastest:
                break
        measured = list(self.seen.values())
        feasible = sorted(filter(self.reaches, measured), key=lambda point: point.milliseconds)
        best = max(measured, key=lambda point: (point.recall.value, -point.milliseconds))
        return Tuning(self._timed_again(feasible), best, measured)

    def _timed_again(self, feasible: list[Measured]) -> list[Measured]:
        again = []
        for point in feasible[: self.finalists]:
            times = [
                point.milliseconds,
                *(self.measure(point.parameters).milliseconds for _ in range(self.repeats - 1)),
            ]
            again.append(Measured(point.parameters, point.recall, sorted(times)[len(times) // 2]))
        return sorted(again, key=lambda point: point.milliseconds) + feasible[self.finalists :]
