"""The next item is made while one is used, and nothing else changes."""

import threading
from collections.abc import Iterator

import pytest

from clipmill.source.ahead import one_ahead


def test_items_come_in_order_and_once() -> None:
    assert list(one_ahead(iter(range(50)))) == list(range(50))
    assert list(one_ahead(iter([None, 0, ""]))) == [None, 0, ""]
    assert list(one_ahead(iter([]))) == []


def test_the_next_is_made_while_one_is_used_and_no_other() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    coming = one_ahead(items())
    for number in range(3):
        assert next(coming) == number
        assert made[number + 1].wait(10)
        assert not any(event.is_set() for event in made[number + 2 :])


def test_what_is_raised_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    coming = one_ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def test_whoever_stops_early_leaves_no_thread_behind() -> None:
    coming = one_ahead(iter(range(10)))
    assert next(coming) == 0
    coming.close()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())
