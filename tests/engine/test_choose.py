"""Small work is done in this process, unless a cluster or its GPUs are asked for."""

import os
from typing import Any

import pytest
import ray

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings
from clipmill.engine.choose import SMALL_VECTORS, cores_here, pieces_for, runs_here
from clipmill.engine.here import Here


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def test_small_work_is_done_here_and_other_work_is_not() -> None:
    assert runs_here(ClusterSettings(), small=True)
    assert runs_here(ClusterSettings(cpus=4), small=True)
    assert not runs_here(ClusterSettings(), small=False)


@pytest.mark.parametrize("asked", [{"address": "local"}, {"address": "10.0.0.1:6379"}, {"num_gpu_actors": 1}])
def test_a_cluster_that_is_asked_for_is_used(asked: dict[str, Any]) -> None:
    assert not runs_here(ClusterSettings(**asked), small=True)


def test_the_cluster_of_a_submitted_job_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not runs_here(ClusterSettings(), small=True)


def test_a_cluster_that_this_process_has_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    assert not runs_here(ClusterSettings(), small=True)


def test_cores_are_those_asked_for_else_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores_here(ClusterSettings(cpus=3)) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5}, raising=False)
    assert cores_here(ClusterSettings()) == 2


def test_pieces_over_few_vectors_are_done_one_after_the_other_in_this_process() -> None:
    done: list[str] = []
    reporter = Silent()
    with pieces_for(ClusterSettings(cpus=2), SMALL_VECTORS, "index", reporter) as (pieces, told):
        assert isinstance(pieces, Here)
        assert told is reporter
        assert (pieces.cores, pieces.cores_each(7)) == (2, 2)
        pieces.start("one", lambda alive, name: done.append(name) or name, "one", then=lambda said: start_more(said))

        def start_more(said: str) -> None:
            pieces.start("two", lambda alive: done.append(f"after {said}"))

        assert done == []
        pieces.wait()
    assert done == ["one", "after one"]


def test_what_a_piece_raises_is_raised_and_those_that_wait_are_dropped() -> None:
    done: list[int] = []
    pieces = Here(1)

    def fail(alive: Any) -> None:
        raise OSError("disk full")

    pieces.start("failing", fail)
    pieces.start("waiting", lambda alive: done.append(1))
    with pytest.raises(OSError, match="disk full"):
        pieces.wait()
    pieces.wait()
    assert done == []
