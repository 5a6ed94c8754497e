"""Results come in order, and little is taken ahead."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clipmill.core.errors import RunFailed, StorageFailed, WorkersFailed
from clipmill.core.reporter import Silent, Tally
from clipmill.stage.pieces import no_heartbeat
from clipmill.verification.dataset import verify
from clipmill.verification.parallel import Tasks, in_order


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


@dataclass(frozen=True)
class Named:
    name: str
    bytes: int = 1


@dataclass
class LatestFirst:
    """An engine that does the piece first that was started last, and counts those that wait or were not taken."""

    cores: int = 1
    hardware: dict[str, Any] = field(default_factory=dict)
    waiting: deque[Callable[[], Any]] = field(default_factory=deque)
    most: int = 0

    def share(self, value: Any) -> Any:
        return value

    def cores_each(self, pieces: int) -> int:
        return 1

    def start(self, what: str, function: Any, *arguments: Any, then: Any, **options: Any) -> None:
        self.waiting.append(lambda: then(function(no_heartbeat, *arguments)))
        self.most = max(self.most, len(self.waiting))

    def poll(self) -> None:
        raise NotImplementedError

    def wait(self) -> None:
        while self.waiting:
            self.waiting.pop()()


def test_tasks_that_end_in_any_order_are_taken_in_the_order_of_the_files() -> None:
    files, taken, pieces = [Named(str(number)) for number in range(20)], [], LatestFirst()
    tally = Tally(Silent(), "verify", 20, "B")
    Tasks(pieces, ahead=4).each(lambda advance, file: file.name, files, tally, taken.append)
    assert taken == [str(number) for number in range(20)]
    assert pieces.most == 4


@dataclass
class Failing(LatestFirst):
    error: Exception = field(default_factory=lambda: RunFailed("nothing moved for 600 s; what is done is kept: go on"))

    def wait(self) -> None:
        raise self.error


def test_workers_that_fail_say_nothing_of_the_dataset(embeddings: Path) -> None:
    with pytest.raises(WorkersFailed, match="nothing moved for 600 s; run the same command again"):
        verify(str(embeddings), quick=False, reporter=Silent(), looking=Tasks(Failing(), ahead=2))
    silent = Failing(error=StorageFailed("the store is silent"))
    with pytest.raises(StorageFailed, match="the store is silent"):
        verify(str(embeddings), quick=False, reporter=Silent(), looking=Tasks(silent, ahead=2))


@pytest.mark.parametrize("name", ["embeddings", "index", "captions_index"])
def test_tasks_find_what_threads_find(whole: Path, name: str) -> None:
    place = str(whole / name)
    by_tasks = verify(place, quick=False, reporter=Silent(), looking=Tasks(LatestFirst(), ahead=3))
    assert by_tasks == verify(place, quick=False, reporter=Silent())
    assert by_tasks.whole
