"""What an autoscaler refuses as a whole is asked for piece by piece."""

from typing import Any

import pytest

from clipmill.engine import growth
from clipmill.engine.autoscaler import Bundle, Outlook
from clipmill.engine.growth import Growth, lacking

ENCODER: Bundle = (("CPU", 0.5), ("GPU", 1.0))
DECODER: Bundle = (("CPU", 1.0),)
NODE = {"CPU": 2.0, "GPU": 1.0, "node:10.0.0.1": 1.0}


@pytest.mark.parametrize(
    ("wanted", "nodes", "missing"),
    [
        ({ENCODER: 6}, 3, {ENCODER: 3}),
        ({ENCODER: 3}, 3, {}),
        ({ENCODER: 3, DECODER: 3}, 3, {}),
        ({ENCODER: 3, DECODER: 4}, 3, {DECODER: 1}),
        ({DECODER: 7, ENCODER: 1}, 2, {DECODER: 4}),
        ({}, 0, {}),
    ],
)
def test_what_is_lacking_is_what_fits_on_no_node(
    wanted: dict[Bundle, int], nodes: int, missing: dict[Bundle, int]
) -> None:
    assert lacking(wanted, [NODE] * nodes) == missing


class Asked:
    """Stands for Ray: tasks that wait until they are let go, one a node with a free GPU."""

    def __init__(self) -> None:
        self.waiting: dict[int, dict[str, float]] = {}
        self.nodes_up, self.cancelled, self._number = 1, 0, 0

    def arrive(self, bundle: dict[str, float]) -> int:
        self._number += 1
        self.waiting[self._number] = bundle
        return self._number

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": NODE}] * self.nodes_up + [{"Alive": False, "Resources": NODE}]

    def wait(self, tasks: list[int], **_: object) -> tuple[list[int], list[int]]:
        return [task for task in tasks if task not in self.waiting], []

    def cancel(self, task: int, **_: object) -> None:
        self.cancelled += self.waiting.pop(task, None) is not None


def test_tasks_ask_for_what_is_refused_until_it_is_there_or_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, refused = Asked(), {ENCODER: 3}
    monkeypatch.setattr(growth, "ray", ray)
    monkeypatch.setattr(growth, "_arrive", ray.arrive)
    monkeypatch.setattr(growth, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(growth, "outlook", lambda: Outlook(grows=True, refused=refused))
    asking = Growth()
    for _ in range(2):
        asking.look()
        assert list(ray.waiting.values()) == [dict(ENCODER)] * 2, "a second look asks for no more"
    ray.nodes_up = 2
    ray.waiting.popitem()
    asking.look()
    assert list(ray.waiting.values()) == [dict(ENCODER)]
    refused.clear()
    asking.look()
    assert not ray.waiting
    refused[DECODER] = 100
    asking.look()
    assert 0 < len(ray.waiting) <= 64
    asking.end()
    assert not ray.waiting
