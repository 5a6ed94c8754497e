"""What workers report is counted once, and what they were doing when they died is known."""

import pytest

from clipmill.engine import watch
from clipmill.engine.autoscaler import Outlook
from clipmill.engine.watch import Patience, Tally


def test_a_unit_told_twice_counts_once() -> None:
    tally = Tally()
    tally.finished(7, {"rows": 10})
    tally.finished(3, {"rows": 5})
    assert tally.take().units == [7, 3]
    tally.finished(7, {"rows": 10})
    tally.finished(8, {"rows": 1})
    again = tally.take()
    assert (again.units, again.counts) == ([8], {"rows": 1})


def test_the_unit_that_was_begun_most_often_is_the_suspect() -> None:
    tally = Tally()
    for _ in range(3):
        tally.begun(5, "decoding")
    tally.begun(4, "decoding")
    tally.begun(6, "decoding")
    tally.begun(6, "encoding")
    tally.finished(4, {})
    assert tally.under_way() == [(5, "decoding", 3), (6, "encoding", 1)]


def test_deaths_of_an_encoder_that_loads_are_counted_until_one_succeeds() -> None:
    tally = Tally()
    for _ in range(3):
        tally.starting("one")
    assert (tally.take().deaths, tally.take().loaded) == (2, False)
    assert not tally.take().anything
    tally.started()
    reported = tally.take()
    assert (reported.deaths, reported.loaded, reported.anything) == (0, True, True)


def test_encoders_of_a_pool_that_grows_are_not_taken_for_deaths() -> None:
    tally = Tally()
    for number in range(40):
        tally.starting(f"encoder {number}")
    assert tally.take().deaths == 0


@pytest.mark.parametrize(
    ("placing", "unplaced", "coming", "still", "ends"),
    [
        (0, True, 3, 11, True),
        (100, False, 0, 11, True),
        (100, False, 1, 11, False),
        (100, True, 0, 11, False),
        (100, True, 1, 111, True),
        (100, True, 1, 9, False),
    ],
)
def test_what_waits_for_a_machine_does_not_stall(
    placing: float, unplaced: bool, coming: int, still: float, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "outlook", lambda: Outlook(grows=True, coming=coming))
    assert Patience(10, placing, unplaced).ends(still) == ends
