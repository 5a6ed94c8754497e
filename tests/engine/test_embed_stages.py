"""What is timed of a unit on its way between processes is kept, and each clock is counted once."""

import json
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
