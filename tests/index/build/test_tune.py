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
        self.glances: list[Parameters] = []

    def measure(self, parameters: Parameters) -> Measured:
        self.calls.append(parameters)
        value = recall(parameters)
        interval = Interval(value=value, low=value - 0.01, high=value + 0.01, n=100)
        return Measured(parameters, interval, milliseconds(parameters))

    def glance(self, parameters: Parameters) -> Measured:
        """With few queries: recall is off by up to .03, and its interval says so."""
        self.glances.append(parameters)
        error = 0.03 * (-1) ** (parameters[0] + parameters[1] // 10)
        value = recall(parameters) + error
        return Measured(
            parameters, Interval(value=value, low=value - 0.04, high=value + 0.04, n=4), milliseconds(parameters)
        )


def test_the_fastest_point_that_reaches_the_target_is_found() -> None:
    for target in (0.3, 0.5, 0.7, 0.8, 0.9, 0.94):
        reaching = [p for p in itertools.product(FIRST, SECOND) if recall(p) - 0.01 >= target]
        tuning = Tuner(Search().glance, Search().measure, target).run(FIRST, SECOND)
        assert tuning.feasible[0].parameters == min(reaching, key=milliseconds)


def test_far_fewer_points_than_the_grid_has_are_measured() -> None:
    search = Search()
    Tuner(search.glance, search.measure, 0.9).run(FIRST, SECOND)
    assert len({*search.calls, *search.glances}) < len(FIRST) * len(SECOND) / 2


def test_points_far_from_the_target_are_only_glanced_at() -> None:
    search = Search()
    tuning = Tuner(search.glance, search.measure, 0.7).run(FIRST, SECOND)
    far = [point for point in search.glances if abs(recall(point) - 0.7) > 0.08]
    finals = [point.parameters for point in tuning.feasible]
    assert far
    assert set(search.calls).isdisjoint(set(far) - set(finals))


def test_what_reaches_the_target_was_measured_with_all_queries() -> None:
    for target in (0.3, 0.5, 0.7, 0.9):
        tuning = Tuner(Search().glance, Search().measure, target).run(FIRST, SECOND)
        assert {point.recall.n for point in tuning.feasible} == {100}


def test_the_low_end_of_the_interval_decides() -> None:
    target = recall((8, 80))
    tuning = Tuner(Search().glance, Search().measure, target).run(FIRST, SECOND)
    assert (8, 80) not in [point.parameters for point in tuning.feasible]


def test_a_target_out_of_reach_leaves_the_best_that_can_be_had() -> None:
    tuning = Tuner(Search().glance, Search().measure, 0.999).run(FIRST, SECOND)
    assert tuning.feasible == []
    assert tuning.best.parameters == (32, 80)


def test_the_front_holds_no_point_that_another_beats() -> None:
    front = Tuner(Search().glance, Search().measure, 0.9).run(FIRST, SECOND).front
    for one, other in itertools.pairwise(front):
        assert one.milliseconds <= other.milliseconds
        assert one.recall.value < other.recall.value
