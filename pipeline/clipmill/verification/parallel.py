"""Files looked through at the same time: results in order, and never more under way than memory is planned for.

In threads of this process, or as pieces of work on a cluster.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from clipmill.core.errors import RunFailed, StorageFailed, WorkersFailed
from clipmill.core.reporter import Tally
from clipmill.stage.pieces import Alive, Pieces

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int], None]
"""Is called with how many bytes were read."""


class Sized(Protocol):
    """A file, or some that belong together."""

    @property
    def name(self) -> str: ...

    @property
    def bytes(self) -> int: ...


File = TypeVar("File", bound=Sized)


class Looking(Protocol):
    """Looks through files."""

    def each(
        self,
        look: Callable[[Advance, File], Result],
        files: Sequence[File],
        tally: Tally,
        take: Callable[[Result], object],
    ) -> None:
        """Has every file looked through, anywhere, and hands the results to ``take``, here and in the order of the files.
        ``tally`` counts bytes."""


@dataclass(frozen=True)
class Threads:
    """Looks in so many threads of this process."""

    threads: int

    def each(
        self,
        look: Callable[[Advance, File], Result],
        files: Sequence[File],
        tally: Tally,
        take: Callable[[Result], object],
    ) -> None:
        for result in in_order(partial(look, tally.add), files, self.threads):
            take(result)


@dataclass(frozen=True)
class Tasks:
    """Looks in pieces of work, each of which reads its file itself; at most ``ahead`` are begun that are not taken yet. Raises
    WorkersFailed where a piece fails for good."""

    pieces: Pieces
    ahead: int

    def each(
        self,
        look: Callable[[Advance, File], Result],
        files: Sequence[File],
        tally: Tally,
        take: Callable[[Result], object],
    ) -> None:
        shared = self.pieces.share(look)
        coming = iter(enumerate(files))
        found: dict[int, Result] = {}
        taken = 0

        def start() -> None:
            number, file = next(coming, (None, None))
            if number is not None and file is not None:
                self.pieces.start(f"verifying {file.name}", _look, shared, file, then=partial(keep, number))

        def keep(number: int, result: Result) -> None:
            nonlocal taken
            found[number] = result
            tally.add(files[number].bytes)
            while taken in found:
                take(found.pop(taken))
                taken += 1
                start()

        try:
            for _ in range(self.ahead):
                start()
            self.pieces.wait()
        except StorageFailed:
            raise
        except RunFailed as error:
            told = str(error).partition(";")[0]
            raise WorkersFailed(f"not everything could be read: {told}; run the same command again") from error


def _look(alive: Alive, look: Callable[[Advance, File], Result], file: File) -> Result:
    def advance(size: int) -> None:
        alive()

    return look(advance, file)


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
