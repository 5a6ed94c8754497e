"""What is timed of a unit on its way between processes is kept, and each clock is counted once."""

import json
import threading
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pytest

from clipmill.embedding import steps
from clipmill.engine import embed_stages as stages


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes at each look at a clock, half a second of it on the CPU."""

    def clock(step: float) -> Iterator[float]:
        now = 0.0
        while True:
            now += step
            yield now

    wall, cpu = clock(1.0), clock(0.5)
    monkeypatch.setattr(steps.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(stages, "timed", partial(steps.timed, clock=lambda: next(cpu)))


def test_copying_is_timed_where_a_unit_is_packed_and_unpacked(ticking: None) -> None:
    table = pa.table({"row": [1, 2, 3]})
    block = stages._block(7, table, {"read": 4.0, "cpu": 2.0})
    assert json.loads(block.column("seconds")[0].as_py()) == {"read": 4.0, "cpu": 2.5, "copy": 1.0}
    [(unit, unpacked, seconds)] = stages.unpack(block)
    assert unit == 7
    assert unpacked.equals(table)
    assert seconds == {"read": 4.0, "cpu": 3.0, "copy": 2.0}


@pytest.mark.parametrize("far", [True, False])
def test_units_are_read_ahead_where_files_are_far_and_come_as_they_are(
    far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is used the next is read, where reading is waiting; else it is read when it is asked for."""
    reading = [threading.Event() for _ in range(3)]

    def rows(*given: object) -> Iterator[tuple[int, pa.Table, dict[str, float]]]:
        for unit, event in enumerate(reading):
            event.set()
            yield unit, pa.table({"row": [unit]}), {}

    monkeypatch.setattr(stages, "read_rows", rows)
    monkeypatch.setattr(stages, "are_far", lambda files: far)
    blocks = stages._read_group(None, [], None)
    first = next(blocks)
    assert reading[1].wait(10 if far else 0) == far
    units = [unit for block in (first, *blocks) for unit, _, _ in stages.unpack(block)]
    assert units == [0, 1, 2]
