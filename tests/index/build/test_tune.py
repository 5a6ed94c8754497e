"""Tuning finds the fastest point that reaches the target, whatever is being searched."""

import itertools

from clipmill.core.manifests import Interval
from clipmill.index.build.tune import Measured, Parameters, Tuner

FIRST = [1, 2, 4, 8, 16, 32]
SECOND = [10, 20, 40, 80]


def recall(parameters: Parameters) -> float:
    first, second = parameters
    return (1 - 0.5 / first) * (1 - 2 / second)


def milliseconds(parameters: Parameters) -> float:
    first, second = parameters
    return 0.1 * first + 0.03 * second


class Search:
    """A search whose recall and time are known, counting the points it is measured at."""

    def __init__(self) -> None:
        self.calls: list[Parameters] = []
        self.looks: list[Parameters] = []

    def measure(self, parameters: Parameters) -> Measured:
        self.calls.append(parameters)
        value = recall(parameters)
        interval = Interval(value=value, low=value - 0.01, high=value + 0.01, n=100)
        return Measured(parameters, interval, milliseconds(parameters))

    def look(self, parameters: Parameters) -> Measured:
        self.looks.append(parameters)
        value = recall(parameters)
        interval = Interval(value=value, low=value - 0.01, high=value + 0.01, n=100)
        return Measured(parameters, interval, 1.1 * milliseconds(parameters))


def test_the_fastest_point_that_reaches_the_target_is_found() -> None:
    for target in (0.3, 0.5, 0.7, 0.8, 0.9, 0.94):
        reaching = [p for p in itertools.product(FIRST, SECOND) if recall(p) - 0.01 >= target]
        tuning = Tuner(Search().look, Search().measure, target).run(FIRST, SECOND)
        assert tuning.feasible[0].parameters == min(reaching, key=milliseconds)


def test_far_fewer_points_than_the_grid_has_are_measured() -> None:
    search = Search()
    Tuner(search.look, search.measure, 0.9).run(FIRST, SECOND)
    assert len({*search.calls, *search.looks}) < len(FIRST) * len(SECOND) / 2


def test_only_the_finalists_are_measured() -> None:
    search = Search()
    tuning = Tuner(search.look, search.measure, 0.7).run(FIRST, SECOND)
    assert search.calls
    assert set(search.calls) == {point.parameters for point in tuning.feasible}


def test_a_finalist_that_misses_the_target_when_it_is_measured_is_none() -> None:
    search = Search()
    fastest = Tuner(search.look, search.measure, 0.7).run(FIRST, SECOND).feasible[0].parameters

    def measure(parameters: Parameters) -> Measured:
        point = search.measure(parameters)
        missed = Interval(value=0.6, low=0.59, high=0.61, n=100)
        return Measured(parameters, missed, point.milliseconds) if parameters == fastest else point

    found = Tuner(search.look, measure, 0.7).run(FIRST, SECOND)
    assert fastest not in [point.parameters for point in found.feasible]
    assert found.feasible


def test_the_low_end_of_the_interval_decides() -> None:
    target = recall((8, 80))
    tuning = Tuner(Search().look, Search().measure, target).run(FIRST, SECOND)
    assert (8, 80) not in [point.parameters for point in tuning.feasible]


def test_a_target_out_of_reach_leaves_the_best_that_can_be_had() -> None:
    tuning = Tuner(Search().look, Search().measure, 0.999).run(FIRST, SECOND)
    assert tuning.feasible == []
    assert tuning.best.parameters == (32, 80)


def test_the_front_holds_no_point_that_another_beats() -> None:
    front = Tuner(Search().look, Search().measure, 0.9).run(FIRST, SECOND).front
    for one, other in itertools.pairwise(front):
        assert one.milliseconds <= other.milliseconds
        assert one.recall.value < other.recall.value
