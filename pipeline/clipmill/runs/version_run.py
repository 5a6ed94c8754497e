"""A run towards a new version: make its parts, judge them, and let readers see it once it is whole and good enough."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from clipmill import storage
from clipmill.core.errors import BarMissed, RunFailed
from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    EmbeddingsManifest,
    IndexManifest,
)
from clipmill.core.reporter import Reporter
from clipmill.engine.choose import SMALL_ROWS, SMALL_VECTORS, cores_here, runs_here
from clipmill.engine.device import check_decoding, check_device, check_products, declared
from clipmill.estimate.machine import Machine
from clipmill.report.document import Report
from clipmill.report.plan_lines import plan_lines
from clipmill.runs.run_file import RunFile
from clipmill.runs.stages import Loader, plan_embed
from clipmill.runs.summary import RunRecord, recorded
from clipmill.runs.train_first import with_trained_model
from clipmill.source.footers import save_footers
from clipmill.storage import Location
from clipmill.storage.lease import Lease
from clipmill.versions.base import Base, key_of
from clipmill.versions.changes import changes_since
from clipmill.versions.gates import Judged, judge, recall_of
from clipmill.versions.lock import alone
from clipmill.versions.place import Place
from clipmill.versions.pointer import Seen, read_pointer, switch
from clipmill.versions.takedown import read_removed
from clipmill.versions.unfinished import UnfinishedVersion, begin, end, read_unfinished
from clipmill.versions.version import Bar, Training, Version, all_versions, manifests_of, write_version

if TYPE_CHECKING:
    from clipmill.core.settings import Settings
    from clipmill.embedding.plan import EmbedPlan
    from clipmill.runs.version_stages import Tell
    from clipmill.runs.words_first import WordsFirst


def run_version(run: RunFile, configuration: str, wait: float, reporter: Reporter, tell: "Tell") -> Version | None:
    """Every stage of a run file, as a new version of what is published at its output; None where nothing has changed.

    ``configuration`` is what the record of the run calls the file. Waits up to ``wait`` seconds for another run towards
    the same output to end.

    Raises BarMissed where the version is whole and not good enough or the model that was trained for it is not better, and
    Occupied where another run goes on.
    """
    check_device(run.cluster)
    check_decoding(run.embed.decode, declared(run.cluster))
    check_products(run.index.products if run.index else "auto", run.cluster)
    check_products(run.evaluate.products if run.evaluate else "auto")
    place = Place.of(run.output)
    with recorded(place.output, command="run", configuration=configuration, hook=run.hook) as record:
        record.owns_output = False
        with alone(place.run_lock, wait) as lease:
            record.owns_output = True
            try:
                if run.train is not None:
                    run = with_trained_model(run, run.train, reporter, tell)
                return VersionRun(run, place, read_pointer(place), lease, record, reporter, tell).publish()
            finally:
                record.owns_output = not lease.lost


@dataclass(frozen=True)
class VersionParts:
    """The parts of a version, and what is to be said of them."""

    embeddings: EmbeddingsManifest
    index: IndexManifest | None
    report: Report | None
    training: Training | None
    notes: list[str]
    ordinals: int
    plan: Forecast


class VersionRun:
    """One run towards one output, whose lease it holds; ``seen`` is the pointer as it was when it began."""

    def __init__(
        self, run: RunFile, place: Place, seen: Seen, lease: Lease, record: RunRecord, reporter: Reporter, tell: "Tell"
    ) -> None:
        self._run, self._place, self._seen, self._lease = run, place, seen, lease
        self._record, self._reporter, self._tell = record, reporter, tell
        self._base = Base.read(place, seen)
        self._removed = read_removed(place)

    def publish(self) -> Version | None:
        """Makes the version, judges it, and lets readers see it; None where nothing has changed. Raises BarMissed where it
        is not good enough."""
        words = self._words()
        plan, load = self._plan(words)
        stages = {"index": self._run.index, "evaluate": self._run.evaluate, **_words_of(self._run)}
        key = key_of(plan.fingerprint, stages, self._removed)
        if self._base is not None and self._base.version.key == key:
            self._forget_words(words)
            self._record.note(version=self._base.version.name, unchanged=True)
            self._tell("unchanged", f"{self._place.output} stays at version {self._base.version.name}")
            return None
        version = begin(self._place, key, self._base.version.name if self._base else None)
        made = self._make(version, plan, load)
        bars = self._judge(made)
        folder = self._place.version(version.name)
        described = self._describe(version, made, bars, folder)
        write_version(self._place, described)
        self._lease.check()
        self._refuse_what_was_taken_down()
        switch(self._place, described, self._seen)
        end(self._place)
        self._forget_words(words)
        self._record.note(version=version.name, unchanged=False, notes=made.notes)
        self._tell("published", str(folder))
        return described

    def _refuse_what_was_taken_down(self) -> None:
        """Raises RunFailed where something was taken down since the run began: the version may hold it."""
        new = len(read_removed(self._place) | self._removed) - len(self._removed)
        if new:
            raise RunFailed(
                f"{new:,} ids or contents were taken down while this run was at work, so what it made is not published; run "
                "the same command again: it leaves them out"
            )

    def _words(self) -> "WordsFirst | None":
        """The words that are written first, made; None where the run writes none."""
        if self._run.caption is None:
            return None
        from clipmill.runs.words_first import WordsFirst

        words = WordsFirst(
            self._run,
            self._place,
            self._removed,
            self._base.embeddings if self._base else None,
            self._reporter,
            self._tell,
        )
        words.make(self._record)
        return words

    def _forget_words(self, words: "WordsFirst | None") -> None:
        """Removes words that the run file does not ask for any more."""
        if words is None:
            storage.remove(self._place.words)
        else:
            words.forget_others()

    def _plan(self, words: "WordsFirst | None") -> "tuple[EmbedPlan, Loader]":
        from clipmill.embedding.plan import find_source

        captioned = words.source() if words is not None else None
        if captioned is not None:
            return plan_embed(*captioned, self._reporter)
        self._reporter.message("run", f"reading what is in {self._run.embed.input}")
        source = find_source(self._run.embed, self._place.footers)
        save_footers(self._place.footers, source.inputs)
        return plan_embed(self._run.embed, source, self._reporter, self._begun())

    def _begun(self) -> tuple[Location, ...]:
        """The embeddings that this run goes on from or grows from, the nearest first."""
        unfinished = read_unfinished(self._place)
        names = [version.name for version in (unfinished, self._base.version if self._base else None) if version]
        return (self._place.new_rows, *(self._place.version(name) / "embeddings" for name in names))

    def _make(self, version: UnfinishedVersion, plan: "EmbedPlan", load: Loader) -> VersionParts:
        from clipmill.runs.version_stages import VersionStages  # not before it is known that there is something to do

        folder = self._place.version(version.name)
        stages = VersionStages(self._run, self._place, folder, self._base, self._removed, self._reporter, self._tell)
        used = max((one.ordinals for one in all_versions(self._place)), default=0)
        changes = changes_since(
            self._base.embeddings if self._base else None, plan.inputs, used, anew=bool(stages.reason_to_reencode(plan))
        )
        rows = sum(file.rows for file in stages.to_encode(plan, changes))
        with self._machine(plan, rows) as machine:
            forecast = stages.make_forecast(plan, changes, machine)
            self._tell_plan(forecast)
            with self._record.stage("embed") as stage:
                embeddings, notes = stages.embed(plan, load, changes)
                encoded = sum(run.rows_encoded for run in embeddings.runs)
                stage.note((folder / "embeddings").uri, **embeddings.counts.model_dump(), rows_encoded=encoded)
            with self._record.stage("index") as stage:
                index, training, more = stages.index(same_vectors=not notes)
                if index is not None:
                    recall = recall_of(index)
                    stage.note((folder / "index").uri, factory=index.factory, vectors=index.n, recall=recall)
        forecast = stages.beside(forecast, plan, changes)
        self._tell_plan(forecast)
        with self._record.stage("evaluate") as stage:
            report = stages.evaluate(forecast)
            if report is not None:
                stage.note((folder / "report").uri)
        return VersionParts(embeddings, index, report, training, [*notes, *more], changes.used, forecast)

    @contextmanager
    def _machine(self, plan: "EmbedPlan", rows: int) -> Iterator[Machine]:
        """What the stages run on, of which ``rows`` are encoded: one cluster for all of them, or this process."""
        settings = self._run.cluster
        if runs_here(settings, small=rows <= SMALL_ROWS and plan.rows <= SMALL_VECTORS):
            yield Machine("this machine", cores_here(settings), 0)
            return
        from clipmill.engine.cluster import connect

        self._reporter.message("run", "connecting to Ray")
        with connect(settings) as cluster:
            yield Machine("the cluster", cluster.cpus, int(cluster.gpus))

    def _tell_plan(self, forecast: Forecast) -> None:
        self._record.note(plan=forecast.model_dump())
        for line in plan_lines(forecast):
            self._tell("plan", line)

    def _judge(self, made: VersionParts) -> list[Bar]:
        published = self._base.judged if self._base else None
        bars = judge(self._run.gates, Judged(made.embeddings, made.index, made.report), published)
        self._record.note(bars=[bar.model_dump() for bar in bars])
        for bar in bars:
            self._tell("gate", f"{bar.name}: {bar.measured} ({bar.bar}){': MISSED' if bar.missed else ''}")
        missed = [bar for bar in bars if bar.missed]
        if missed:
            told = "; ".join(f"{bar.name} is {bar.measured}, and should be {bar.bar}: {bar.missed}" for bar in missed)
            stays = f"version {self._base.version.name} stays" if self._base else "nothing is published yet"
            raise BarMissed(f"{told}; nothing was published, {stays}")
        return bars

    def _describe(self, version: UnfinishedVersion, made: VersionParts, bars: list[Bar], folder: Location) -> Version:
        counts = made.embeddings.counts
        encoded = sum(run.rows_encoded for run in made.embeddings.runs)
        return Version(
            name=version.name,
            made=datetime.now(timezone.utc),
            base=version.base,
            key=version.key,
            manifests=manifests_of(folder),
            counts=counts,
            rows_encoded=encoded,
            rows_reused=counts.rows - encoded,
            removed=len(self._removed),
            ordinals=made.ordinals,
            training=made.training,
            notes=made.notes,
            bars=bars,
            plan=made.plan,
        )


def _words_of(run: RunFile) -> "dict[str, Settings | None]":
    """The settings of the stages that write words, where there are such: versions from before know nothing of them."""
    return {name: one for name, one in (("caption", run.caption), ("recaption", run.recaption)) if one is not None}
