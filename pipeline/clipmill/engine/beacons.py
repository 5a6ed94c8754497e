"""What workers were doing when they died, from files that they leave on their nodes.

A worker makes an empty file when it begins with a unit and removes it when it is done: nothing is sent, however many units
there are. A process that dies leaves its file, whose name says what it was doing.

    TEMPORARY/clipmill-unit.TOKEN.UNIT.DOING.PROCESS.THREAD
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from clipmill.core.environment import is_running

_ANSWER_SECONDS = 10
_OLD_SECONDS = 86_400.0
_PREFIX = "clipmill-unit"


@dataclass(frozen=True)
class Left:
    """What was being done with a unit by a process, which may have died of it."""

    unit: int
    doing: str
    died: bool


@contextmanager
def doing(token: str, unit: int, what: str) -> Iterator[None]:
    """Says that this thread does something with a unit of the execution ``token``, for the length of the block. What cannot
    be said, since the disk is full, is not."""
    name = f"{_PREFIX}.{token}.{unit}.{what}.{os.getpid()}.{threading.get_ident()}"
    beacon = Path(tempfile.gettempdir()) / name
    with suppress(OSError):
        beacon.touch()
    try:
        yield
    finally:
        with suppress(OSError):
            beacon.unlink()


def left_here(token: str) -> list[Left]:
    """What workers of this node are doing, or were when they died."""
    parts = (beacon.name.split(".")[2:5] for beacon in _beacons(token))
    return [Left(int(unit), what, died=not is_running(int(process))) for unit, what, process in parts]


def forget_here(token: str) -> None:
    """Removes what was left on this node."""
    for beacon in _beacons(token):
        with suppress(OSError):
            beacon.unlink()


def left_anywhere(token: str) -> list[Left]:
    """As `left_here`, of all nodes that answer; nothing where none does. What was left is removed."""

    def look() -> list[Left]:
        left = left_here(token)
        forget_here(token)
        return left

    asked = []
    with suppress(ray.exceptions.RayError):
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked.append(ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote())
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_ANSWER_SECONDS) if asked else ([], [])
        return [left for one in answered for left in ray.get(one)]
    return []


def suspects(left: Sequence[Left]) -> list[tuple[int, str, int]]:
    """Units with what was done with them and how many processes died of that, most first: one that kills its worker is begun
    again and again. Where none died, what is being done."""
    died = [one for one in left if one.died] or left
    counted = Counter((one.unit, one.doing) for one in died)
    return sorted(((unit, what, times) for (unit, what), times in counted.items()), key=lambda one: (-one[2], one[0]))


def sweep_here() -> None:
    """Removes what processes left that are gone since a day, with runs that nobody waited for."""
    for beacon in Path(tempfile.gettempdir()).glob(f"{_PREFIX}.*"):
        with suppress(OSError, ValueError, IndexError):
            if time.time() - beacon.stat().st_mtime > _OLD_SECONDS and not is_running(int(beacon.name.split(".")[4])):
                beacon.unlink()


def _beacons(token: str) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{_PREFIX}.{token}.*"))
