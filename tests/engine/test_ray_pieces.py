"""Tasks are tried again a few times and no more, fail by name, and are not waited for when nothing moves."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import pytest
import ray

from clipmill.core.errors import RunFailed, UserError
from clipmill.core.settings import ClusterSettings
from clipmill.engine.cluster import Cluster, connect
from clipmill.engine.ray_pieces import RayPieces, _reason, cores_of_a_node, memory_of_a_node, threads_each
from clipmill.engine.watch import Patience
from clipmill.stage.pieces import Alive, no_heartbeat
from workers import workers

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Cluster]:
    """One cluster for all of them, whose workers need not find this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with connect(ClusterSettings(cpus=2)) as cluster:
        yield cluster


@pytest.fixture
def pieces(cluster: Cluster) -> RayPieces:
    return RayPieces(cluster, 60)


@pytest.fixture
def impatient(cluster: Cluster) -> RayPieces:
    return RayPieces(cluster, 2)


def note(place: Path) -> int:
    """Notes that a task was begun, and says how often it was."""
    with open(place, "a") as stream:
        stream.write("x")
    return place.stat().st_size


def die_at_first(alive: Alive, place: Path, times: int) -> str:
    if note(place) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fail_at_first(alive: Alive, place: Path, times: int, kind: type[Exception]) -> str:
    if note(place) <= times:
        raise kind("the disk is on fire")
    return "done"


def hang(alive: Alive, seconds: float, signs: bool) -> str:
    """Shows no sign of life, or one again and again."""
    if not signs:
        alive = no_heartbeat
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        time.sleep(0.2)
        alive()
    return "done"


def goes_on(alive: Alive, place: Path) -> None:
    for _ in range(100):
        note(place)
        time.sleep(0.1)


def test_tasks_do_not_go_on_after_ctrl_c(tmp_path: Path, pieces: RayPieces, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that was connected before, and lives on."""
    place = tmp_path / "notes"
    pieces.start("counting", goes_on, place)
    monkeypatch.setattr(pieces, "_signs", lambda: place.exists() and signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        pieces.wait()
    time.sleep(1)
    noted = place.stat().st_size
    time.sleep(1)
    assert place.stat().st_size == noted < 100


def test_a_task_whose_worker_is_killed_is_tried_again(tmp_path: Path, pieces: RayPieces) -> None:
    results: list[str] = []
    pieces.start("digging", die_at_first, tmp_path / "tries", 2, cores=1, then=results.append)
    pieces.wait()
    assert results == ["done"]
    assert (tmp_path / "tries").read_text() == "xxx"


def test_a_task_that_always_dies_is_given_up_by_name(tmp_path: Path, pieces: RayPieces) -> None:
    pieces.start("digging hole 3", die_at_first, tmp_path / "tries", 99, cores=1)
    with pytest.raises(RunFailed, match=r"digging hole 3 failed 4 times: its process was killed.*same command again"):
        pieces.wait()
    assert (tmp_path / "tries").read_text() == "xxxx"


@pytest.mark.parametrize(
    ("kind", "tries", "said"),
    [
        (OSError, 4, "digging failed 4 times: OSError: the disk is on fire"),
        (MemoryError, 4, "digging failed 4 times: its process was ended for lack of memory; use machines with more"),
        (ValueError, 1, "digging failed in a worker .ValueError: the disk is on fire"),
        (UserError, 1, "^the disk is on fire$"),
    ],
)
def test_only_what_may_pass_is_tried_again(
    kind: type[Exception], tries: int, said: str, tmp_path: Path, pieces: RayPieces
) -> None:
    pieces.start("digging", fail_at_first, tmp_path / "tries", 99, kind, cores=1)
    with pytest.raises(UserError if kind is UserError else RunFailed, match=said):
        pieces.wait()
    assert len((tmp_path / "tries").read_text()) == tries


def test_what_is_started_by_a_result_is_waited_for(tmp_path: Path, pieces: RayPieces) -> None:
    results: list[str] = []

    def then(result: str) -> None:
        results.append(result)
        if len(results) < 3:
            pieces.start("more", die_at_first, tmp_path / "tries", 0, cores=0.5, then=then)

    pieces.start("first", die_at_first, tmp_path / "tries", 0, cores=0.5, then=then)
    pieces.wait()
    assert results == ["done"] * 3


def test_a_task_that_shows_no_sign_of_life_ends_the_run_and_is_named(impatient: RayPieces) -> None:
    impatient.start("staring at the wall", hang, 600, False, cores=2)
    with pytest.raises(
        RunFailed, match=r"nothing moved for 2 s while waiting for staring at the wall .*up to 2 CPUs"
    ) as said:
        impatient.wait()
    assert "0 of 2 CPUs free" in str(said.value)
    deadline = time.monotonic() + 30
    while workers("hang"):
        assert time.monotonic() < deadline, "the task was not cancelled"
        time.sleep(0.1)


def test_tasks_that_wait_for_others_are_counted(impatient: RayPieces) -> None:
    for number in range(5):
        impatient.start(f"task {number}", hang, 600, False, cores=2)
    with pytest.raises(RunFailed, match="task 0, task 1, task 2 and 2 more"):
        impatient.wait()


def test_a_task_that_fits_on_no_node_is_given_what_there_is(pieces: RayPieces) -> None:
    results: list[str] = []
    pieces.start("reaching for the stars", hang, 0, False, cores=64, then=results.append)
    pieces.wait()
    assert results == ["done"]


def test_a_long_task_with_signs_of_life_is_waited_for(pieces: RayPieces) -> None:
    results: list[str] = []
    pieces.start("warming up", hang, 1, True, cores=1, then=results.append)
    pieces.wait()  # a worker and the tally may take seconds to start
    pieces._patience = Patience(3)
    pieces.start("walking slowly", hang, 7, True, cores=1, then=results.append)
    pieces.wait()
    assert results == ["done", "done"]


def test_death_for_lack_of_memory_is_named() -> None:
    assert "lack of memory; use machines with more" in _reason(ray.exceptions.OutOfMemoryError("killed"))
    assert _reason(ray.exceptions.NodeDiedError("gone")) == "its node died"


def what_was_given(alive: Alive) -> tuple[float, float, int]:
    """CPUs and memory that Ray gave this task, and the threads that it has."""
    given = ray.get_runtime_context().get_assigned_resources()
    return given["CPU"], given.get("memory", 0.0), faiss.omp_get_max_threads()


def test_a_task_has_the_memory_that_it_asks_for_and_the_threads_of_its_node(pieces: RayPieces) -> None:
    results: list[tuple[float, float, int]] = []
    pieces.start("resting", what_was_given, cores=2, memory=300_000_000, then=results.append)
    pieces.wait()
    pieces.start("resting more", what_was_given, cores=64, memory=10**15, then=results.append)
    pieces.wait()
    assert results == [(2, 300_000_000, 2), (2, memory_of_a_node(), 2)], "no more than the largest node has"


def test_tasks_that_take_much_memory_are_not_put_side_by_side(pieces: RayPieces, tmp_path: Path) -> None:
    most = int(memory_of_a_node() * 0.7)
    for number in range(3):
        pieces.start(f"lifting {number}", alone_in, tmp_path / "here", memory=most)
    pieces.wait()


def alone_in(alive: Alive, place: Path) -> None:
    """Fails where another is there."""
    place.mkdir()
    time.sleep(0.5)
    place.rmdir()


def test_nodes_without_cpus_take_no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    def nodes(*cpus: float | None) -> None:
        found = [{"Alive": True, "Resources": {} if some is None else {"CPU": some}} for some in cpus]
        monkeypatch.setattr(ray, "nodes", lambda: [*found, {"Alive": False, "Resources": {"CPU": 512.0}}])

    nodes(None, 8.0, 16.0)
    assert (cores_of_a_node(), threads_each(1), threads_each(6), threads_each(99)) == (16, 16, 4, 1)
    nodes(None)
    assert (cores_of_a_node(), threads_each(3)) == (1, 1)
    nodes(0.0, 2.0)
    assert (cores_of_a_node(), threads_each(2)) == (2, 1)
