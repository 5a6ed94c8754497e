"""Following a run while units are committed: shards that can be made, progress, and whether there are too many rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from clipmill.core import log
from clipmill.core.reporter import Reporter
from clipmill.datasets.shards import Shard
from clipmill.stage.pieces import Pieces
from clipmill.stage.stage import Work
from clipmill.stage.units.commit import Finished
from clipmill.stage.units.compact import gather_records, statistics_of
from clipmill.stage.units.layout import AnySums, Layout
from clipmill.stage.units.reject_limit import RejectLimit, rejects_by_reason
from clipmill.stage.units.shard_maker import ShardMaker


@dataclass(frozen=True)
class Followed(Generic[AnySums]):
    """A run over units, of ``rows`` in all, of which ``rows_done`` were done before it began. ``todo`` are the numbers of the
    units that are left, ``finished`` what is there."""

    stage: str
    layout: Layout[AnySums]
    limit: RejectLimit
    rows: int
    rows_done: int
    todo: NDArray[np.int64]
    finished: Finished


class Following(Generic[AnySums]):
    """What the driver of a run knows of it, from what it is told of committed units."""

    def __init__(self, run: Followed[AnySums], work: Work, pieces: Pieces, reporter: Reporter) -> None:
        self._run = run
        self._lease = work.lease
        self._reporter = reporter
        known = run.limit.most is not None
        earlier = statistics_of(run.layout, run.finished) if known else run.layout.sums()
        self._counts = Counter(earlier.counts())
        self._rows = run.rows_done
        self._shards = ShardMaker(run.layout, run.todo, run.finished, pieces)
        self._rejects = log.Steps("rejects")
        run.limit.check(self._counts)
        self._tell()

    def committed(self, units: list[int], counts: Mapping[str, int]) -> None:
        """These units were committed. Raises RunFailed where another run has the output, or there are too many rejects."""
        if self._lease.lost:
            self._lease.check()
        if not units:
            return
        self._rows += counts["rows"]
        self._tell()
        self._shards.note(units)
        self._counts.update(counts)
        if reasons := rejects_by_reason(self._counts):
            self._rejects.note(stage=self._run.stage, by_reason=reasons)
        self._run.limit.check(self._counts)

    def finish(self) -> tuple[list[Shard], AnySums, float]:
        """Makes the shards that are left, once all units are committed. Returns the files of all shards, the sums of all
        units, and the seconds that making shards took."""
        self._rejects.end()
        self._shards.finish()
        files, total = gather_records(self._run.layout)
        self._run.limit.check(Counter(total.counts()), all_done=True)
        return files, total, self._shards.seconds

    def _tell(self) -> None:
        self._reporter.progress(self._run.stage, self._rows, self._run.rows, "rows")
