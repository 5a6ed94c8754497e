"""A worker that dies leaves word of what it was doing, and one that is done leaves nothing."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmill.engine.beacons import Left, doing, forget_here, left_here, suspects, sweep_here


@pytest.fixture
def token() -> Iterator[str]:
    made = secrets.token_hex(8)
    yield made
    forget_here(made)


def dies_at(token: str, unit: int, what: str) -> None:
    """A process of its own that ends without a word while it does something."""
    child = os.fork()
    if child == 0:
        with doing(token, unit, what):
            os._exit(1)
    os.waitpid(child, 0)


def test_what_is_done_leaves_nothing(token: str) -> None:
    with doing(token, 3, "decoding"):
        assert left_here(token) == [Left(3, "decoding", died=False)]
    with pytest.raises(ValueError, match="failed"), doing(token, 4, "encoding"):
        raise ValueError("failed")
    assert left_here(token) == []


def test_a_process_that_died_leaves_what_it_was_doing(token: str) -> None:
    dies_at(token, 7, "encoding")
    assert left_here(token) == [Left(7, "encoding", died=True)]


def test_the_unit_that_most_processes_died_of_is_the_suspect(token: str) -> None:
    for _ in range(3):
        dies_at(token, 5, "decoding")
    dies_at(token, 6, "encoding")
    with doing(token, 4, "decoding"):
        assert suspects(left_here(token)) == [(5, "decoding", 3), (6, "encoding", 1)]


def test_where_none_died_what_is_being_done_is_suspect(token: str) -> None:
    with doing(token, 4, "decoding"):
        assert suspects(left_here(token)) == [(4, "decoding", 1)]


def test_what_was_left_a_day_ago_is_swept_away(token: str) -> None:
    dies_at(token, 1, "decoding")
    dies_at(token, 2, "decoding")
    (old,) = Path(tempfile.gettempdir()).glob(f"*{token}.1.*")
    os.utime(old, (0, 0))
    sweep_here()
    assert left_here(token) == [Left(2, "decoding", died=True)]


def test_runs_are_told_apart_and_forgotten(token: str) -> None:
    dies_at(token, 1, "decoding")
    assert left_here(secrets.token_hex(8)) == []
    forget_here(token)
    assert left_here(token) == []
    assert not list(Path(tempfile.gettempdir()).glob(f"*{token}*"))
