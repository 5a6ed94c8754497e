"""Ending a run of Ray Data that is under way: its driver asks at every step whether it is still wanted."""

from __future__ import annotations

import threading
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback


class Stopped(Exception):
    """The run was told to stop."""


class StopSwitch:
    """Goes into ``DataContext.custom_execution_callback_classes``, which calls it once a run for what it returns.

    The context also travels to the workers, where there is nothing to stop: a copy of a switch is a new one.
    """

    def __init__(self) -> None:
        self._told = threading.Event()

    def __call__(self) -> ExecutionCallback:
        return _AskEveryStep(self._told)

    def __reduce__(self) -> tuple[Any, ...]:
        return StopSwitch, ()

    def stop(self) -> None:
        """The run ends with Stopped at its next step, and its actors with it: a step is taken when a task ends, and after
        eight seconds in which none does."""
        self._told.set()


class _AskEveryStep(ExecutionCallback):
    def __init__(self, told: threading.Event) -> None:
        self._told = told

    def on_execution_step(self, executor: object) -> None:
        if self._told.is_set():
            raise Stopped
