"""clipmill run: every stage of a YAML file as a new version, which readers see once it is whole and good enough."""

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipmill.core.errors import BarMissed
from clipmill.core.schemas import EmbeddingsManifest, Foresight, IndexManifest
from clipmill.estimate.machine import Machine
from clipmill.report.document import Report
from clipmill.run.run_file import RunFile, read_run_file
from clipmill.run.summary import RunRecord, recorded
from clipmill.source.footers import save_footers
from clipmill.storage import Location
from clipmill.storage.lease import Ownership
from clipmill.versions.base import Base, key_of
from clipmill.versions.changes import changes_since
from clipmill.versions.gates import Judged, judge, recall_of
from clipmill.versions.lock import alone
from clipmill.versions.place import Place
from clipmill.versions.pointer import Seen, read_pointer, switch
from clipmill.versions.takedown import read_removed
from clipmill.versions.unfinished import UnfinishedVersion, begin, end
from clipmill.versions.version import Bar, Training, Version, all_versions, manifests_of, write_version
from clipmill_jobs.command import Job
from clipmill_jobs.embed import plan_embed
from clipmill_jobs.plan import told
from clipmill_jobs.stages import VersionStages, say

if TYPE_CHECKING:
    from clipmill.embed.plan import EmbedPlan
    from clipmill.encoders.model import ClipModel


@click.command("run", cls=Job)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another run towards the same output to end. Default: leave at once.",
)
def command(config: Path, wait: float) -> None:
    """Embed, index and evaluate as a YAML file says, and publish the result as a new version.

    Only new and changed files of the input are embedded; rows of files that are gone are dropped; the index keeps its
    training as long as the vectors look like those it was trained on. When all of it is whole and reaches the bars under
    `gates`, output/current.json is switched to the new version: readers see the old one or the new one, never a mix. A
    bar that is missed ends the run with exit code 3, and what is published stays.

    \b
    Example:                       nightly.yaml:
      clipmill run nightly.yaml      output: out/nightly
                                     embed:
                                       input: photos/
                                       thumbnails: 128
                                     index:
                                       target_recall: 0.97
                                     evaluate: {}
                                     gates:
                                       max_rejects: 1%
                                       max_t2i_drop: 0.01
    """
    run = read_run_file(config, look_at_places=True)
    place = Place.of(run.output)
    with recorded(place.output, command="run", configuration=str(config), hook=run.hook) as record:
        record.owns_output = False
        with alone(place, wait) as ownership:
            record.owns_output = True
            try:
                _Run(run, place, read_pointer(place), ownership, record).publish()
            finally:
                record.owns_output = not ownership.lost


@dataclass(frozen=True)
class _Made:
    """The parts of a version, and what is to be said of them."""

    embeddings: EmbeddingsManifest
    index: IndexManifest | None
    report: Report | None
    training: Training | None
    notes: list[str]
    ordinals: int
    plan: Foresight


class _Run:
    """One run towards one output, which it owns; ``seen`` is the pointer as it was when it began."""

    def __init__(self, run: RunFile, place: Place, seen: Seen, ownership: Ownership, record: RunRecord) -> None:
        self._run, self._place, self._seen, self._ownership = run, place, seen, ownership
        self._record = record
        self._base = Base.read(place, seen)
        self._removed = read_removed(place)

    def publish(self) -> None:
        """Makes the version, judges it, and lets readers see it. Raises BarMissed where it is not good enough."""
        plan, model = self._plan()
        stages = {"index": self._run.index, "evaluate": self._run.evaluate}
        key = key_of(plan.fingerprint, stages, self._removed)
        if self._base is not None and self._base.version.key == key:
            self._record.note(version=self._base.version.name, unchanged=True)
            click.echo(f"unchanged: {self._place.output} stays at version {self._base.version.name}")
            return
        version = begin(self._place, key, self._base.version.name if self._base else None)
        made = self._make(version, plan, model)
        bars = self._judge(made)
        folder = self._place.version(version.name)
        described = self._describe(version, made, bars, folder)
        write_version(self._place, described)
        self._ownership.check()
        switch(self._place, described, self._seen)
        end(self._place)
        self._record.note(version=version.name, unchanged=False, notes=made.notes)
        click.echo(f"published {folder}")

    def _plan(self) -> "tuple[EmbedPlan, ClipModel]":
        from clipmill.embed.plan import find_source

        source = find_source(self._run.embed, self._place.footers)
        save_footers(self._place.footers, source.inputs)
        return plan_embed(self._run.embed, source)

    def _make(self, version: UnfinishedVersion, plan: "EmbedPlan", model: "ClipModel") -> _Made:
        from clipmill.engine.cluster import connect

        folder = self._place.version(version.name)
        stages = VersionStages(self._run, self._place, folder, self._base, self._removed)
        used = max((one.ordinals for one in all_versions(self._place)), default=0)
        changes = changes_since(self._base.embeddings if self._base else None, plan.inputs, used)
        with connect(self._run.cluster) as cluster:
            foresight = stages.foresee(plan, changes, Machine("the cluster", cluster.cpus, int(cluster.gpus)))
            self._tell(foresight)
            with self._record.stage("embed") as stage:
                embeddings, notes = stages.embed(plan, model, changes)
                encoded = sum(run.rows_encoded for run in embeddings.runs)
                stage.note((folder / "embeddings").uri, **embeddings.counts.model_dump(), rows_encoded=encoded)
            with self._record.stage("index") as stage:
                index, training, more = stages.index(same_vectors=not notes)
                if index is not None:
                    recall = recall_of(index)
                    stage.note((folder / "index").uri, factory=index.factory, vectors=index.n, recall=recall)
        foresight = stages.beside(foresight, plan, changes)
        self._tell(foresight)
        with self._record.stage("evaluate") as stage:
            report = stages.evaluate(foresight)
            if report is not None:
                stage.note((folder / "report").uri)
        return _Made(embeddings, index, report, training, [*notes, *more], changes.used, foresight)

    def _tell(self, foresight: Foresight) -> None:
        self._record.note(plan=foresight.model_dump())
        for line in told(foresight):
            say("plan", line)

    def _judge(self, made: _Made) -> list[Bar]:
        published = self._base.judged if self._base else None
        bars = judge(self._run.gates, Judged(made.embeddings, made.index, made.report), published)
        self._record.note(bars=[bar.model_dump() for bar in bars])
        for bar in bars:
            say("gate", f"{bar.name}: {bar.measured} ({bar.bar}){': MISSED' if bar.missed else ''}")
        missed = [bar for bar in bars if bar.missed]
        if missed:
            told = "; ".join(f"{bar.name} is {bar.measured}, and should be {bar.bar}: {bar.missed}" for bar in missed)
            stays = f"version {self._base.version.name} stays" if self._base else "nothing is published yet"
            raise BarMissed(f"{told}; nothing was published, {stays}")
        return bars

    def _describe(self, version: UnfinishedVersion, made: _Made, bars: list[Bar], folder: Location) -> Version:
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


if __name__ == "__main__":
    command()
