"""Building an index: train once, hand the empty index to one piece of work a shard, tune on the whole.

The tuning queries are searched exactly by the same runs of positions as the shards, beside the training. What a piece makes
is staged and recorded before it ends; only what is not there yet is started, and no rows pass through here.
"""

from dataclasses import replace
from typing import Any

from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Reporter
from clipmill.index.build import steps
from clipmill.index.build.attempts import missed_before, next_attempt, where_it_stands
from clipmill.index.build.build import Build
from clipmill.index.build.finish import finish_index
from clipmill.index.build.layout import ShardRange
from clipmill.index.build.unfinished import Progress, Trained, find_progress
from clipmill.stage.pieces import Alive, Pieces
from clipmill.stage.stage import Work


def make_index(build: Build, work: Work, pieces: Pieces, reporter: Reporter) -> IndexManifest:
    """Does what is left of an index and returns its manifest; `clipmill.stage.stage` publishes it.

    Raises RunFailed when a piece fails for good; what was done is kept, and the same build continues from it.
    """
    build = where_it_stands(build)
    progress = find_progress(build, work.start)
    if progress.start.earlier:
        reporter.message(build.name, _continuing(build, progress))
    trained = _Graph(build, progress, pieces, reporter).run()
    while (finer := next_attempt(build, trained)) is not None:
        reporter.message(build.name, _missed(finer))
        build, begun = finer, progress.start
        progress = find_progress(build, lambda done, begun=begun: replace(begun, rows_reused=done))  # type: ignore[misc]
        trained = _Graph(build, progress, pieces, reporter).run()
    return finish_index(build, progress, trained, pieces.hardware)


def _missed(finer: Build) -> str:
    last = missed_before(finer)[-1]
    return (
        f"{last.factory} finds {last.recall.value:.4f} of the best {last.k} and not {finer.settings.target_recall:g}; building "
        f"{finer.plan.factory} instead: {finer.plan.why}"
    )


def _continuing(build: Build, progress: Progress) -> str:
    trained = "trained" if progress.trained else "not trained yet"
    return f"continuing: {trained}, {len(build.places) - len(progress.to_fill)} of {len(build.places)} shards filled"


class _Graph:
    """The pieces of one start, each of which starts those that wait for it."""

    def __init__(self, build: Build, progress: Progress, pieces: Pieces, reporter: Reporter) -> None:
        self._build = build
        self._progress = progress
        self._pieces = pieces
        self._reporter = reporter
        self._shared = pieces.share(build)
        self._trained = progress.trained
        self._gpus = int(build.settings.products == "gpu")
        self._filled = build.gallery.n - sum(place.rows for place in progress.to_fill)

    def run(self) -> Trained:
        build, pieces = self._build, self._pieces
        learns = self._trained is None and build.plan.directions > 0
        if self._trained is not None:
            self._fill(self._trained)
        elif not learns:
            self._train()
        if self._progress.to_search or learns:
            then = self._train_and_search if learns else self._search
            pieces.start("drawing queries", _draw, self._shared, then=then)
        pieces.wait()
        settings = build.settings
        self._reporter.message(
            build.name, f"tuning for a recall of {settings.target_recall:g} on {settings.tuning_queries:,} queries"
        )
        assert self._trained is not None
        memory = steps.tuning_bytes(build, self._trained)
        pieces.start("tuning", _tune, self._shared, self._trained, cores=pieces.cores, memory=memory)
        pieces.wait()
        return self._trained

    def _train(self) -> None:
        build, pieces = self._build, self._pieces
        self._reporter.message(build.name, _training_message(build))
        what = f"training {build.plan.factory}"
        memory = steps.training_bytes(build)
        cores, gpus = pieces.cores, self._gpus if build.plan.training_rows else 0
        pieces.start(what, _train, self._shared, cores=cores, memory=memory, gpus=gpus, then=self._fill)

    def _train_and_search(self, drawn: object) -> None:
        """A projection is learned from the queries that are tuned on."""
        self._train()
        self._search(drawn)

    def _search(self, _: object) -> None:
        if not self._progress.to_search:
            return
        cores = self._pieces.cores_each(len(self._progress.to_search))
        for place in self._progress.to_search:
            what = f"exact search of {_named(self._build, place)}"
            self._pieces.start(what, _search, self._shared, place, cores=cores, gpus=self._gpus)

    def _fill(self, trained: Trained) -> None:
        self._trained = trained
        waiting = self._progress.to_fill
        if not waiting:
            return
        self._note(0)
        data = self._pieces.share(steps.trained_bytes(self._build, trained))
        cores = self._pieces.cores_each(len(waiting))
        for place in waiting:
            self._pieces.start(
                f"filling {_named(self._build, place)}",
                _fill,
                self._shared,
                place,
                data,
                trained,
                cores=cores,
                then=lambda filled: self._note(filled.rows),
            )

    def _note(self, rows: int) -> None:
        self._filled += rows
        again = f", kind {self._build.attempt + 1}" if self._build.attempt else ""
        self._reporter.progress(f"{self._build.name}{again}", self._filled, self._build.gallery.n, "vectors")


def _named(build: Build, place: ShardRange) -> str:
    dataset = build.gallery.dataset.location
    return f"shard {place.number} (vectors {place.start:,} to {place.stop - 1:,} of {dataset})"


def _training_message(build: Build) -> str:
    if not build.plan.training_rows:
        return f"{build.plan.factory}: nothing to train"
    return f"training {build.plan.factory} on {build.plan.training_rows:,} of {build.gallery.n:,} vectors"


def _draw(alive: Alive, build: Build) -> None:
    steps.draw(build, alive)


def _train(alive: Alive, build: Build) -> Trained:
    return steps.train(build, alive)


def _search(alive: Alive, build: Build, place: ShardRange) -> None:
    steps.search_exactly(build, place, alive)


def _fill(alive: Alive, build: Build, place: ShardRange, data: Any, trained: Trained) -> ShardRange:
    steps.fill(build, place, data, trained, alive)
    return place


def _tune(alive: Alive, build: Build, trained: Trained) -> None:
    steps.tune(build, trained, alive)
