"""Following a run while units are committed: shards that can be made, progress, and whether there are too many rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from clipmill.core import log
from clipmill.core.reporter import Reporter
from clipmill.datasets.manifests import Shard
from clipmill.embedding.compact import gather_records, statistics_of
from clipmill.embedding.plan import EmbedPlan, Progress
from clipmill.embedding.reject_limit import RejectLimit, rejects_by_reason
from clipmill.embedding.shard_maker import ShardMaker
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import counts_of
from clipmill.stage.pieces import Pieces
from clipmill.stage.stage import Work


class Following:
    """What the driver of a run knows of it, from what it is told of committed units."""

    def __init__(self, plan: EmbedPlan, progress: Progress, work: Work, pieces: Pieces, reporter: Reporter) -> None:
        self._plan = plan
        self._lease = work.lease
        self._reporter = reporter
        self._limit = RejectLimit(plan.settings.max_rejects)
        earlier = statistics_of(plan.layout, progress.finished) if self._limit.most is not None else Statistics()
        self._counts = Counter(counts_of(earlier))
        self._rows = progress.start.rows_reused
        self._shards = ShardMaker(plan.layout, progress.todo, progress.finished, pieces)
        self._rejects = log.Steps("rejects")
        self._limit.check(self._counts)
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
            self._rejects.note(stage=self._plan.name, by_reason=reasons)
        self._limit.check(self._counts)

    def finish(self) -> tuple[list[Shard], Statistics, float]:
        """Makes the shards that are left, once all units are committed. Returns the files of all shards, the figures of
        all units, and the seconds that making shards took."""
        self._rejects.end()
        self._shards.finish()
        files, total = gather_records(self._plan.layout)
        self._limit.check(Counter(counts_of(total)), all_done=True)
        return files, total, self._shards.seconds

    def _tell(self) -> None:
        self._reporter.progress(self._plan.name, self._rows, self._plan.rows, "rows")
