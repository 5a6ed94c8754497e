"""The index graph on Ray: train once, hand the empty index to one task a shard, tune on the whole, publish.

Exact search of the tuning queries goes by the same runs of positions as the shards, beside the training. What a task
makes is staged and recorded before it ends; the driver starts only what is not there yet, and holds no rows.
"""

from collections.abc import Callable
from typing import Any

import ray

from clipmill import storage
from clipmill.core.schemas import IndexManifest
from clipmill.core.settings import ClusterSettings
from clipmill.engine.cluster import Cluster, cause_of
from clipmill.engine.metrics import StageMetric
from clipmill.engine.tasks import Tasks, begin_task, cores_of_a_node, signs_to, threads_each
from clipmill.index.build import steps
from clipmill.index.build.build import Build
from clipmill.index.build.finish import publish_index
from clipmill.index.build.layout import ShardPlace
from clipmill.index.build.unfinished import Progress, Trained, open_build
from clipmill.storage.lease import owned


def build_index(
    build: Build, cluster: Cluster, settings: ClusterSettings, on_stage: Callable[[str], None]
) -> IndexManifest:
    """Does what is left of an index and publishes it. ``on_stage`` is told in words what is being done.

    Raises RunFailed when a stage fails for good; what was done is kept, and the same build continues from it.
    """
    with owned(storage.staging_of(build.output)) as ownership:
        progress = open_build(build)
        if progress.start.earlier:
            on_stage(_continuing(build, progress))
        try:
            trained = _Graph(build, progress, Tasks(settings.stall_timeout), on_stage).run()
        except ray.exceptions.RayError as error:
            raise cause_of(error, "indexing") from error
        hardware = {"cpus": cluster.cpus, "gpus": cluster.gpus, "nodes": cluster.nodes}
        return publish_index(build, progress, trained, hardware, ownership.check)


def _continuing(build: Build, progress: Progress) -> str:
    trained = "trained" if progress.trained else "not trained yet"
    return f"continuing: {trained}, {len(build.places) - len(progress.to_fill)} of {len(build.places)} shards filled"


class _Graph:
    """The tasks of one start, each of which starts those that wait for it."""

    def __init__(self, build: Build, progress: Progress, tasks: Tasks, on_stage: Callable[[str], None]) -> None:
        self._build = build
        self._progress = progress
        self._tasks = tasks
        self._on_stage = on_stage
        self._shared = ray.put(build)
        self._trained = progress.trained
        self._filled = build.gallery.n - sum(place.rows for place in progress.to_fill)
        self._metric = StageMetric("index", build.gallery.n, self._filled)

    def run(self) -> Trained:
        if self._trained is None:
            self._on_stage(_training_message(self._build))
            self._start(f"training {self._build.plan.factory}", _train, cpus=cores_of_a_node(), then=self._fill)
        else:
            self._fill(self._trained)
        if self._progress.to_search:
            self._start("drawing queries", _draw, cpus=1, then=self._search)
        self._tasks.wait()
        settings = self._build.settings
        self._on_stage(f"tuning for a recall of {settings.target_recall:g} on {settings.tuning_queries:,} queries")
        assert self._trained is not None
        self._start("tuning", _tune, self._trained, cpus=cores_of_a_node())
        self._tasks.wait()
        return self._trained

    def _start(self, what: str, function: Any, *arguments: Any, **options: Any) -> None:
        threads = int(options["cpus"])
        self._tasks.start(what, function, self._shared, self._tasks.tally, threads, *arguments, **options)

    def _search(self, _: object) -> None:
        threads = threads_each(len(self._progress.to_search))
        for place in self._progress.to_search:
            what = f"exact search of {_named(self._build, place)}"
            self._start(what, _search, place, cpus=threads)

    def _fill(self, trained: Trained) -> None:
        self._trained = trained
        if not self._progress.to_fill:
            return
        waiting, n = len(self._progress.to_fill), self._build.gallery.n
        self._on_stage(f"filling {waiting} shards with {n - self._filled:,} vectors")
        data = ray.put(steps.trained_bytes(self._build, trained))
        threads = threads_each(waiting)
        for place in self._progress.to_fill:
            what = f"filling {_named(self._build, place)}"
            self._start(what, _fill, place, data, trained.sha256, cpus=threads, then=self._note_filled)

    def _note_filled(self, place: ShardPlace) -> None:
        self._filled += place.rows
        self._metric.add(place.rows)
        if len(self._build.places) > 1:
            self._on_stage(f"{self._filled:,} of {self._build.gallery.n:,} vectors are in shards")


def _named(build: Build, place: ShardPlace) -> str:
    dataset = build.gallery.dataset.location
    return f"shard {place.number} (vectors {place.start:,} to {place.stop - 1:,} of {dataset})"


def _training_message(build: Build) -> str:
    if not build.plan.training_rows:
        return f"{build.plan.factory}: nothing to train"
    return f"training {build.plan.factory} on {build.plan.training_rows:,} of {build.gallery.n:,} vectors"


def _draw(build: Build, tally: Any, threads: int) -> None:
    begin_task(threads)
    steps.draw(build, signs_to(tally))


def _train(build: Build, tally: Any, threads: int) -> Trained:
    begin_task(threads)
    return steps.train(build, signs_to(tally))


def _search(build: Build, tally: Any, threads: int, place: ShardPlace) -> None:
    begin_task(threads)
    steps.search_exactly(build, place, signs_to(tally))


def _fill(build: Build, tally: Any, threads: int, place: ShardPlace, trained: Any, trained_sha256: str) -> ShardPlace:
    begin_task(threads)
    steps.fill(build, place, trained, trained_sha256, signs_to(tally))
    return place


def _tune(build: Build, tally: Any, threads: int, trained: Trained) -> None:
    begin_task(threads)
    steps.tune(build, trained, signs_to(tally))
