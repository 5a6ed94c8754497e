"""What workers report is counted once, and what they were doing when they died is known."""

from collections import Counter

import pytest

from clipmill.engine import watch
from clipmill.engine.autoscaler import Outlook
from clipmill.engine.watch import Patience, Reported, Tally


def test_signs_of_life_are_taken_once() -> None:
    tally = Tally()
    tally.alive()
    tally.alive()
    assert (tally.take().signs, tally.take().signs) == (2, 0)


def test_what_several_report_adds_up() -> None:
    total = Reported(loaded=False)
    total.note(Reported([3], Counter(rows=5), signs=1, deaths=2, loaded=False))
    total.note(Reported([7, 4], Counter(rows=1, images=1), deaths=1))
    assert (total.units, total.counts) == ([3, 7, 4], {"rows": 6, "images": 1})
    assert (total.signs, total.deaths, total.loaded, total.anything) == (1, 2, True, True)


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
