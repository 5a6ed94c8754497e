"""Results come in order, and little is taken ahead."""

import threading
import time

import pytest

from clipmill.verification.parallel import in_order


def test_results_are_in_order_though_the_first_are_slowest() -> None:
    assert list(in_order(lambda item: (time.sleep(0.01 * (5 - item)), item)[1], range(5), 4)) == [0, 1, 2, 3, 4]


def test_no_more_is_taken_ahead_than_twice_the_threads() -> None:
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda item: item, items(), 3)
    next(results)
    assert len(taken) <= 6


def test_it_is_parallel() -> None:
    meeting = threading.Barrier(3, timeout=20)
    assert len(list(in_order(lambda item: meeting.wait(), range(3), 3))) == 3


def test_what_is_raised_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [1, 0, 1], 2))
