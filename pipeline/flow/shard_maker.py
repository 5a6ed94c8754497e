"""The making of shards beside the run: each is started when its last unit is committed, once, as a task of its own."""

from typing import Any

import numpy as np
import ray

from pipeline.errors import RunFailed
from pipeline.flow.cluster import cause_of
from pipeline.flow.commit import find_finished
from pipeline.flow.compact import compact_shard, shards_to_make
from pipeline.flow.layout import Layout
from pipeline.source.units import Units

WRITE_CPUS = 0.02
_RETRIES = 3


class ShardMaker:
    """Is told of units that were committed, and starts the shards that this completes."""

    def __init__(self, layout: Layout, todo: Units) -> None:
        self._layout = layout
        self._missing = np.zeros(layout.units, np.bool_)
        self._missing[todo.numbers] = True
        self._left = np.bincount(layout.shard_of(todo.numbers), minlength=layout.shards)
        self._make = ray.remote(num_cpus=WRITE_CPUS, max_retries=_RETRIES)(compact_shard)
        self._making: list[Any] = []
        self.seconds = 0.0
        """What the making took, summed over tasks; complete after `finish`."""

    def note(self, units: list[int]) -> None:
        """These units were committed; a unit may be told again, when its task was retried."""
        for unit in units:
            if self._missing[unit]:
                self._missing[unit] = False
                shard = self._layout.shard_of(unit)
                self._left[shard] -= 1
                if not self._left[shard]:
                    self._start(shard)

    def finish(self) -> None:
        """Makes what is left. Raises RunFailed when units are missing that should be there."""
        self._wait()
        for shard in shards_to_make(self._layout):
            self._start(shard)
        self._wait()
        missing = self._layout.shards - len(find_finished(self._layout).shards)
        if missing:
            raise RunFailed(f"{missing} shards lack units although all were run; run the same command again")

    def _start(self, shard: int) -> None:
        self._making.append(self._make.remote(self._layout, shard))

    def _wait(self) -> None:
        try:
            self.seconds += sum(ray.get(self._making))
        except ray.exceptions.RayError as error:
            raise cause_of(error, "making shards") from error
        self._making.clear()
