"""What workers report is counted once, and what they were doing when they died is known."""

from clipmill.engine.watch import Tally


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


def test_encoders_that_never_get_ready_are_counted_until_one_does() -> None:
    tally = Tally()
    tally.starting()
    tally.starting()
    assert tally.take().vain_starts == 2
    assert tally.take().vain_starts == 2
    assert not tally.take().anything
    tally.started()
    reported = tally.take()
    assert (reported.vain_starts, reported.anything) == (0, True)
