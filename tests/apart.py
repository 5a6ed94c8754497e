"""Calls in a process of their own, as commands run: whatever they leave behind of Ray goes with the process."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

_PRELOADED = ["clipmill.encoders.model", "clipmill.engine.embed"]
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def apart(function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
    """What the call returns, or raises; function and arguments must be importable there."""
    context = multiprocessing.get_context("forkserver")  # forks, but from a process without threads
    context.set_forkserver_preload(_PRELOADED)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(there, function, arguments, options))
    process.start()
    there.close()
    try:
        result, error = here.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} ended its process without a word") from None
    finally:
        process.join()
    if error is not None:
        raise error
    return result


def _call(there: Connection, function: Callable[..., object], arguments: tuple, options: dict) -> None:
    try:
        there.send((function(*arguments, **options), None))
    except Exception as error:
        there.send((None, error))
    there.close()
    os._exit(0)
