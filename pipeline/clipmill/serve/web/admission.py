"""How many requests are worked on at once: some are answered, some wait, and further ones are told to come back."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from clipmill.serve.limits import Limits
from clipmill.serve.problems import Problem

_ENCODED = 16
"""Further threads, which wait for their query to be encoded: so many are encoded together."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Admission:
    """Runs work in threads, each with one thread of FAISS: many requests at once use the cores better than one that is
    divided. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.workers + limits.waiting
        self._inside = 0
        self._threads = limits.workers + _ENCODED
        self._opened: ThreadPoolExecutor | None = None

    @property
    def inside(self) -> int:
        return self._inside

    async def run(
        self, work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """Raises Problem where too many are waiting."""
        if self._inside >= self._most:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._inside:,} requests are being answered or waiting; ask again in a second",
                retry_after=1,
            )
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*arguments, **named))
        finally:
            self._inside -= 1

    def close(self) -> None:
        """Ends the threads; they start again with the next request."""
        if self._opened is not None:
            self._opened.shutdown(wait=False, cancel_futures=True)
        self._opened = None

    @property
    def _pool(self) -> ThreadPoolExecutor:
        if self._opened is None:
            self._opened = ThreadPoolExecutor(self._threads, "clipmill-answer", initializer=_one_thread)
        return self._opened


def _one_thread() -> None:
    import faiss

    faiss.omp_set_num_threads(1)
