"""The making of shards beside the run: each is started when its last unit is committed, once, as a task of its own."""

from functools import partial
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import RunFailed
from clipmill.stage.pieces import Alive, Pieces
from clipmill.stage.units.commit import Finished, find_finished
from clipmill.stage.units.compact import compact_shard, shards_to_make
from clipmill.stage.units.layout import AnySums, Layout

WRITE_CORES = 0.02
"""Of making a shard, which mostly waits for the storage."""


class ShardMaker(Generic[AnySums]):
    """Is told of units that were committed, whose numbers are in ``todo``, and starts the shards that this completes."""

    def __init__(self, layout: Layout[AnySums], todo: NDArray[np.int64], finished: Finished, pieces: Pieces) -> None:
        self.seconds = 0.0
        """What the making took, summed over tasks; complete after `finish`."""
        self._layout = layout
        self._pieces = pieces
        self._made = set(finished.shards)
        self._missing = np.zeros(layout.units, np.bool_)
        self._missing[todo] = True
        self._left = np.bincount(layout.shard_of(todo), minlength=layout.shards)

    def note(self, units: list[int]) -> None:
        """These units were committed; a unit may be told again, when its task was retried. Raises what making raises."""
        for unit in units:
            if self._missing[unit]:
                self._missing[unit] = False
                shard = self._layout.shard_of(unit)
                self._left[shard] -= 1
                if not self._left[shard]:
                    self._start(shard)
        self._pieces.poll()

    def finish(self) -> None:
        """Makes what is left. Raises RunFailed when units are missing that should be there."""
        self._pieces.wait()
        if len(self._made) == self._layout.shards:
            return
        for shard in shards_to_make(self._layout):
            self._start(shard)
        self._pieces.wait()
        missing = self._layout.shards - len(find_finished(self._layout).shards)
        if missing:
            raise RunFailed(f"{missing} shards lack units although all were run; run the same command again")

    def _start(self, shard: int) -> None:
        what = f"making shard {shard}"
        self._pieces.start(what, _make, self._layout, shard, cores=WRITE_CORES, then=partial(self._note, shard))

    def _note(self, shard: int, seconds: float) -> None:
        self._made.add(shard)
        self.seconds += seconds


def _make(alive: Alive, layout: Layout[AnySums], shard: int) -> float:
    return compact_shard(layout, shard, alive)
