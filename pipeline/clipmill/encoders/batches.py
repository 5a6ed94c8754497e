"""Batches as large as the memory of a device allows: where one does not fit, it is halved and tried again."""

import gc
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

WHOLE = 1_000
"""What an item costs that takes as much as a picture; texts cost less where they are short."""
_WORTH = 1.03
"""A batch twice as large must be so much faster an item: memory that it takes is not there for other things."""


class Batches:
    """Work in batches of at most ``size``, which is halved for good when the device runs out of memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, count: int, work: Callable[[slice], None], costs: NDArray[np.int64] | None = None) -> None:
        """Calls ``work`` with consecutive slices of ``range(count)``. Raises torch.OutOfMemoryError when one item is too
        much; a slice that failed is begun again.

        Slices are of even lengths. With ``costs``, int64 (count,) and ascending, an item takes the memory of so many parts
        of `WHOLE`, and a slice holds as many as ``size`` whole ones take, each counted like its costliest.
        """
        start = 0
        while start < count:
            stop = self._stop(start, count, costs)
            if self._fits(work, slice(start, stop)):
                start = stop
            else:
                self.size = max(1, min(self.size, stop - start) // 2)

    def _stop(self, start: int, count: int, costs: NDArray[np.int64] | None) -> int:
        if costs is None:
            left = count - start
            slices = -(-left // self.size)
            return start + -(-left // slices)
        taken = costs[start:] * np.arange(1, count - start + 1)
        return start + max(1, int(np.searchsorted(taken, self.size * WHOLE, side="right")))

    def _fits(self, work: Callable[[slice], None], part: slice) -> bool:
        try:
            work(part)
        except torch.OutOfMemoryError:
            if part.stop - part.start == 1:
                raise
        else:
            return True
        gc.collect()  # only here has the error let go of what the failed batch had allocated
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return False


def fastest_size(seconds: Callable[[int], float], start: int, most: int) -> int:
    """The batch size from which on larger ones gain nothing: doubled from ``start`` up to ``most`` while that is worth it.

    ``seconds`` takes a batch size and says how long such a batch takes, or raises torch.OutOfMemoryError.
    """
    best, rate, size = start, 0.0, start
    while size <= most:
        try:
            reached = size / seconds(size)
        except torch.OutOfMemoryError:
            break
        if reached < _WORTH * rate:
            break
        best, rate, size = size, reached, 2 * size
    return best
