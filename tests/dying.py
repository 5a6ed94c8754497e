"""A machine that dies at a chosen instant: from there on nothing more reaches the disk, not even tidying up."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from clipmill import storage
from clipmill.storage import lease


class Dead(BaseException):
    """The process has exited."""


@contextmanager
def dying(when: Callable[[int], bool]) -> Iterator[Callable[[], bool]]:
    """Dies as soon as ``when`` is true: it is asked before and after everything that makes a file appear or vanish, and
    given the number of times that it was asked before.

    Yields a function that says whether it died; the block ends quietly where it does.
    """
    asked = 0
    dead = False

    def live() -> None:
        nonlocal asked, dead
        dead = dead or when(asked)
        asked += 1
        if dead:
            raise Dead

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            live()
            result = function(*arguments, **options)
            live()
            return result

        return run

    def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
        """In a thread nobody else takes the death."""

        def run(*arguments: Any) -> None:
            with suppress(Dead):
                function(*arguments)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", mortal(os.replace))
        patch.setattr(os, "unlink", mortal(os.unlink))
        patch.setattr(storage, "remove", mortal(storage.remove))
        patch.setattr(lease, "_leave", quiet(lease._leave))
        patch.setattr(lease, "_held_here", set())  # of a process that has exited, none are held afterwards
        try:
            yield lambda: dead
        except Dead:
            assert dead
