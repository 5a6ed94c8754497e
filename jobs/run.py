"""clipmill run: every stage of a YAML file as a new version, which readers see once it is whole and good enough."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.command import Job, replacing
from jobs.embed import embed_planned
from jobs.evaluate import evaluate_stage
from jobs.index import build_stage
from pipeline.datasets import Embeddings
from pipeline.errors import BarMissed
from pipeline.owner import Ownership
from pipeline.publish.base import Base, key_of, why_all_anew
from pipeline.publish.changes import Changes, changes_since
from pipeline.publish.compose import Composition, compose
from pipeline.publish.gates import Judged, judge, recall_of
from pipeline.publish.grow import grow, training_of
from pipeline.publish.lock import alone
from pipeline.publish.place import Place
from pipeline.publish.pointer import Seen, read_pointer, switch
from pipeline.publish.takedown import read_removed
from pipeline.publish.unfinished import UnfinishedVersion, begin, end
from pipeline.publish.version import Bar, Training, Version, all_versions, manifests_of, write_version
from pipeline.report.document import Report
from pipeline.run_file import RunFile, read_run_file
from pipeline.run_summary import RunRecord, recorded
from pipeline.schemas import EmbeddingsManifest, IndexManifest
from pipeline.source.footers import save_footers
from pipeline.storage import Location

if TYPE_CHECKING:
    from pipeline.clip.model import ClipModel
    from pipeline.flow.embed_plan import EmbedPlan


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
    with (
        recorded(place.output, command="run", configuration=str(config), hook=run.hook) as record,
        alone(place, wait) as ownership,
    ):
        _Run(run, place, read_pointer(place), ownership, record).publish()


@dataclass(frozen=True)
class _Made:
    """The parts of a version, and what is to be said of them."""

    embeddings: EmbeddingsManifest
    index: IndexManifest | None
    report: Report | None
    training: Training | None
    notes: list[str]
    ordinals: int


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
        from pipeline.clip.model import load_model
        from pipeline.flow.embed_plan import make_plan

        model = load_model(self._run.embed.model_settings, device="cpu")
        plan = make_plan(self._run.embed, model.identity, model.preprocessing, self._place.footers)
        save_footers(self._place.footers, plan.inputs)
        return plan, model

    def _make(self, version: UnfinishedVersion, plan: "EmbedPlan", model: "ClipModel") -> _Made:
        from pipeline.flow.cluster import connect

        folder = self._place.version(version.name)
        with ExitStack() as stack:
            stack.enter_context(connect(self._run.cluster))
            with self._record.stage("embed") as stage:
                used = max((one.ordinals for one in all_versions(self._place)), default=0)
                changes = changes_since(self._base.embeddings if self._base else None, plan.inputs, used)
                embeddings, notes = self._embed(folder, plan, model, changes)
                encoded = sum(run.rows_encoded for run in embeddings.runs)
                stage.note((folder / "embeddings").uri, **embeddings.counts.model_dump(), rows_encoded=encoded)
            with self._record.stage("index") as stage:
                index, training, more = self._index(folder, same_vectors=not notes)
                if index is not None:
                    recall = recall_of(index)
                    stage.note((folder / "index").uri, factory=index.factory, vectors=index.n, recall=recall)
        with self._record.stage("evaluate") as stage:
            report = self._evaluate(folder)
            if report is not None:
                stage.note((folder / "report").uri)
        return _Made(embeddings, index, report, training, [*notes, *more], changes.used)

    def _embed(
        self, folder: Location, plan: "EmbedPlan", model: "ClipModel", changes: Changes
    ) -> tuple[EmbeddingsManifest, list[str]]:
        """The embeddings of the version, and why all rows were encoded, where they were."""
        from pipeline.flow.embed_manifest import described
        from pipeline.flow.embed_plan import describe_columns

        base = self._base.embeddings if self._base else None
        columns, images = describe_columns(plan.columns), plan.layout.schema("images")
        why = why_all_anew(base, plan.identity, plan.configuration, columns, images)
        files = changes.files if why else changes.new
        if base is None and not self._removed:
            manifest, _ = self._encode(plan, changes, model, (folder / "embeddings").uri)
        else:
            if any(file.rows for file in files):
                self._encode(plan, changes, model, self._place.new_rows.uri, only_new=not why)
            made = Embeddings.open(self._place.new_rows.uri) if any(file.rows for file in files) else None
            kept = None if why else base
            manifest = compose(
                Composition(
                    folder / "embeddings",
                    kept,
                    made,
                    changes,
                    self._removed,
                    plan.identity,
                    described(plan),
                )
            )
        encoded = sum(run.rows_encoded for run in manifest.runs)
        counts = manifest.counts
        _say(
            "embed",
            f"{counts.images:,} images, {counts.captions:,} captions; {encoded:,} of {counts.rows:,} rows encoded",
        )
        if base is not None:
            _say(
                "", f"{len(changes.new):,} files new or changed, {len(changes.dead):,} gone, {changes.kept:,} as before"
            )
        if base is not None and why:
            _say("", f"all rows were encoded: {why}")
        return manifest, [f"all rows were encoded: {why}"] if why else []

    def _encode(
        self, plan: "EmbedPlan", changes: Changes, model: "ClipModel", output: str, *, only_new: bool = False
    ) -> tuple[EmbeddingsManifest, bool]:
        chosen = [file for file in (changes.new if only_new else changes.files) if file.rows or not only_new]
        return embed_planned(plan.narrowed(chosen, output), model, self._run.cluster)

    def _index(
        self, folder: Location, *, same_vectors: bool
    ) -> tuple[IndexManifest | None, Training | None, list[str]]:
        from pipeline.index.build import finished, make_build

        if self._run.index is None:
            return None, None, []
        places = {"embeddings": (folder / "embeddings").uri, "output": (folder / "index").uri}
        settings = self._run.index.model_copy(update=places)
        build = make_build(settings)
        base, before = (self._base.index, self._base.version.training) if self._base else (None, None)
        notes: list[str] = []
        training: Training | None = None
        if base is None or finished(build) is not None:
            manifest, _ = build_stage(build, self._run.cluster)
            training = before
        else:
            grown = grow(build, base, before, same_vectors=same_vectors)
            notes, training = grown.notes, before if grown.reuses else None
            manifest, _ = build_stage(grown.build, self._run.cluster)
            if grown.reuses and not manifest.target_met and self._base is not None and self._base.met_target:
                recall = recall_of(manifest)
                notes = [f"the index is trained: with the old training its recall fell to {recall:.4f}"]
                training = None
                anew = settings.model_copy(update={"overwrite": True})
                manifest, _ = build_stage(make_build(anew), self._run.cluster)
        if training is None or training.sha256 != manifest.trained_sha256:
            training = training_of(build, folder / "index")
        _say("index", f"{manifest.factory}, recall {recall_of(manifest):.3f}")
        for note in notes:
            _say("", note)
        return manifest, training, notes

    def _evaluate(self, folder: Location) -> Report | None:
        if self._run.evaluate is None:
            return None
        places = {
            "embeddings": (folder / "embeddings").uri,
            "index": (folder / "index").uri if self._run.index is not None else None,
            "output": (folder / "report").uri,
        }
        settings = self._run.evaluate.model_copy(update=places)
        report, _ = replacing(settings, evaluate_stage)
        _say("evaluate", f"report.html, {len(report.absences)} things not measured")
        return report

    def _judge(self, made: _Made) -> list[Bar]:
        published = self._base.judged if self._base else None
        bars = judge(self._run.gates, Judged(made.embeddings, made.index, made.report), published)
        self._record.note(bars=[bar.model_dump() for bar in bars])
        for bar in bars:
            _say("gate", f"{bar.name}: {bar.measured} ({bar.bar}){': MISSED' if bar.missed else ''}")
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
        )


def _say(stage: str, what: str) -> None:
    click.echo(f"{stage:9} {what}")


if __name__ == "__main__":
    command()
