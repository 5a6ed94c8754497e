"""What was read last, kept for the next who asks."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_KEPT = 4096
Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values that were used last, by row; what is missing is made, for all rows at once and by one thread. Only what
    ``lasts`` is kept: what could not be read now may be there the next time."""

    def __init__(
        self,
        make: Callable[[Sequence[int]], dict[int, Value]],
        lasts: Callable[[Value], bool] = lambda value: True,
        most: int = _KEPT,
    ) -> None:
        self._make = make
        self._lasts = lasts
        self._most = most
        self._known: OrderedDict[int, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, rows: Sequence[int]) -> dict[int, Value]:
        with self._lock:
            missing = [row for row in dict.fromkeys(rows) if row not in self._known]
            made = self._make(missing) if missing else {}
            found = {
                row: made[row] if row in made else self._known[row] for row in rows if row in made or row in self._known
            }
            for row, value in found.items():
                if self._lasts(value):
                    self._known[row] = value
                    self._known.move_to_end(row)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
            return found
