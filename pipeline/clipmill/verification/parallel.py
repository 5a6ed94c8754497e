"""Work in threads, its results in order, and never more of it under way than memory is planned for."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 8


def threads_for(*, local: bool) -> int:
    """One a core on a local disk; on S3, where threads mostly wait, always eight."""
    return min(_MOST_THREADS, os.cpu_count() or 1) if local else _MOST_THREADS


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """``work`` of each item, in their order; at most twice as many items as threads are taken ahead."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
