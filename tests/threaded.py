"""Workers of a training run in threads of this process."""

from collections.abc import Callable, Sequence
from threading import Barrier, Thread
from typing import Any

import torch


class Threaded:
    """One of several workers that wait for each other."""

    def __init__(self, rank: int, barrier: Barrier, told: list[Any]) -> None:
        self.rank, self.count, self._barrier, self._told = rank, len(told), barrier, told

    def tell(self, value: Any) -> list[Any]:
        self._told[self.rank] = value
        self._barrier.wait(60)
        found = list(self._told)
        self._barrier.wait(60)
        return found

    def gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        return self.tell(rows.clone())

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        for tensor, parts in zip(tensors, zip(*self.tell([one.clone() for one in tensors]), strict=True), strict=True):
            tensor.copy_(sum(parts))


def in_threads(count: int, work: Callable[[Threaded], Any]) -> list[Any]:
    """What each of ``count`` workers returns, in the order of ranks; raises what the first of them raised."""
    barrier, told = Barrier(count), [None] * count
    found: list[Any] = [None] * count
    raised: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            found[rank] = work(Threaded(rank, barrier, told))
        except BaseException as error:
            raised.append(error)
            barrier.abort()

    threads = [Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    if raised:
        raise raised[0]
    return found
