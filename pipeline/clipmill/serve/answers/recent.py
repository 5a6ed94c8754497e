"""What was read last, kept for the next who asks."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_KEPT = 4096
Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values that were used last, by row; what is missing is made, for all rows at once and by one thread at a time.

    Only what ``lasts`` is kept: what could not be read now may be there the next time. Who has waited for ``patience``
    seconds (negative: without end) for another thread that reads goes without what is missing.
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], dict[int, Value]],
        lasts: Callable[[Value], bool] = lambda value: True,
        patience: float = -1,
        most: int = _KEPT,
    ) -> None:
        self._make = make
        self._lasts = lasts
        self._patience = patience
        self._most = most
        self._known: OrderedDict[int, Value] = OrderedDict()
        self._looking, self._making = threading.Lock(), threading.Lock()

    def get(self, rows: Sequence[int]) -> dict[int, Value]:
        """The values of these rows, without those that there are none of."""
        found = self._kept(rows)
        if len(found) == len(set(rows)) or not self._making.acquire(timeout=self._patience):
            return found
        try:
            found |= self._kept(rows)  # another thread may have read them meanwhile
            made = self._make([row for row in dict.fromkeys(rows) if row not in found])
            self._keep(made)
        finally:
            self._making.release()
        return found | made

    def _kept(self, rows: Sequence[int]) -> dict[int, Value]:
        with self._looking:
            found = {row: self._known[row] for row in rows if row in self._known}
            for row in found:
                self._known.move_to_end(row)
            return found

    def _keep(self, made: dict[int, Value]) -> None:
        with self._looking:
            self._known.update({row: value for row, value in made.items() if self._lasts(value)})
            while len(self._known) > self._most:
                self._known.popitem(last=False)
