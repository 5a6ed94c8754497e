"""The stages of `clipmill run` towards one version: what is kept of the version before, and what is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    EmbeddingsManifest,
    IndexManifest,
    Interval,
)
from clipmill.core.reporter import Reporter
from clipmill.core.settings import OutputSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.estimate.machine import Machine
from clipmill.report.document import Report
from clipmill.runs.run_file import RunFile
from clipmill.runs.stages import Loader, build_stage, embed_planned, evaluate_stage, replacing
from clipmill.source.input_file import InputFile
from clipmill.storage import Location
from clipmill.versions.base import Base, reason_to_reencode
from clipmill.versions.changes import Changes
from clipmill.versions.compose import Composition, compose
from clipmill.versions.forecast import PlannedRun, beside, make_forecast
from clipmill.versions.gates import recall_of
from clipmill.versions.grow import grow, training_of
from clipmill.versions.new_rows import recall_of_new
from clipmill.versions.place import Place
from clipmill.versions.takedown import Takedown
from clipmill.versions.version import Training

if TYPE_CHECKING:
    from clipmill.embedding.plan import EmbedPlan
    from clipmill.index.build.build import Build


Tell = Callable[[str, str], None]
"""Is told the result of a stage in a line; an empty name goes on with the stage before."""


@dataclass(frozen=True)
class VersionStages:
    """Makes the parts of the version in ``folder``, which grows from ``base``, without what was taken down."""

    run: RunFile
    place: Place
    folder: Location
    base: Base | None
    removed: Takedown
    reporter: Reporter
    tell: Tell

    def embed(self, plan: "EmbedPlan", load: Loader, changes: Changes) -> tuple[EmbeddingsManifest, list[str]]:
        """The embeddings of the version, and why all rows were encoded, where they were."""
        from clipmill.embedding.manifest import described

        base, why = self.base.embeddings if self.base else None, self.reason_to_reencode(plan)
        output = self.folder / "embeddings"
        if self._is_embedded_in_place:
            narrowed = plan.narrowed(changes.files, output.uri)
            manifest = embed_planned(narrowed, load, self.run.cluster, self.reporter, self.run.output).manifest
        else:
            made = self._encode(plan, load, changes)
            kept = None if why else base
            manifest = compose(
                Composition(
                    OutputSettings(output=output.uri), kept, made, changes, self.removed, plan.identity, described(plan)
                )
            )
        counts, encoded = manifest.counts, sum(run.rows_encoded for run in manifest.runs)
        found = ", ".join(f"{count:,} {what}" for what, count in counts.embedded.items())
        self.tell("embed", f"{found}; {encoded:,} of {counts.rows:,} rows encoded")
        notes = [f"all rows were encoded: {why}"] if why else []
        if base is not None:
            self.tell("", changes.summary)
            for note in notes:
                self.tell("", note)
        return manifest, notes

    def make_forecast(self, plan: "EmbedPlan", changes: Changes, machine: Machine) -> Forecast:
        """What the run should take, before anything is encoded."""
        new = self.to_encode(plan, changes)
        return make_forecast(
            PlannedRun(plan.identity, changes.files, new, plan.settings.limit, self.run.index, machine), self.base
        )

    def beside(self, forecast: Forecast, plan: "EmbedPlan", changes: Changes) -> Forecast:
        """The same with what it took, when embeddings and index are there."""
        embedded = self.folder / "embeddings" if self._is_embedded_in_place else self.place.new_rows
        new = Embeddings.open(embedded.uri) if self.to_encode(plan, changes) else None
        return beside(forecast, new, self.folder / "index" if self.run.index is not None else None)

    @property
    def _is_embedded_in_place(self) -> bool:
        """Whether there is nothing that new rows have to be put together with."""
        return self.base is None and not len(self.removed)

    def reason_to_reencode(self, plan: "EmbedPlan") -> str:
        """Why all rows are encoded, in words; empty where those of the version before are kept."""
        from clipmill.embedding.plan import describe_columns

        base, columns = self.base.embeddings if self.base else None, describe_columns(plan.columns)
        images = plan.parts.schema("images")
        return reason_to_reencode(base, plan.identity, plan.configuration, columns, images, self.removed)

    def to_encode(self, plan: "EmbedPlan", changes: Changes) -> list[InputFile]:
        """The files whose rows have to be encoded."""
        return [file for file in (changes.files if self.reason_to_reencode(plan) else changes.new) if file.rows]

    def _encode(self, plan: "EmbedPlan", load: Loader, changes: Changes) -> Embeddings | None:
        """What has to be encoded, as a dataset of its own; None where that is nothing."""
        files = self.to_encode(plan, changes)
        if not files:
            return None
        output = self.place.new_rows.uri
        embed_planned(plan.narrowed(files, output), load, self.run.cluster, self.reporter, self.run.output)
        return Embeddings.open(output)

    def index(self, *, same_vectors: bool) -> tuple[IndexManifest | None, Training | None, list[str]]:
        """The index of the version, the training that it stands on, and why it is that one."""
        from clipmill.index.build.build import make_build

        if self.run.index is None:
            return None, None, []
        output = self.folder / "index"
        places = {"embeddings": (self.folder / "embeddings").uri, "output": output.uri}
        settings = self.run.index.model_copy(update=places)
        build = make_build(settings)
        base, training = (self.base.index, self.base.version.training) if self.base else (None, None)
        notes: list[str] = []
        if base is not None and build.finished() is None:
            grown = grow(build, base, training, same_vectors=same_vectors)
            notes, manifest = grown.notes, self._build(grown.build)
        else:
            manifest = self._build(build)
        if base is not None and training is not None and training.sha256 == manifest.trained_sha256:
            found = self._recall_of_new(manifest, build.gallery.dataset, base)
            if why := self._why_train(manifest, found):
                notes = [f"the index is trained: with the old training its recall {why}"]
                manifest = self._build(make_build(settings.model_copy(update={"overwrite": True})))
            elif found is not None:
                notes = [*notes, f"its recall is {_on_new(manifest, found)}"]
        if training is None or training.sha256 != manifest.trained_sha256:
            training = training_of(build, output)
        self.tell("index", f"{manifest.factory}, recall {recall_of(manifest):.3f} on {manifest.asked_with}")
        for note in notes:
            self.tell("", note)
        return manifest, training, notes

    def _recall_of_new(self, manifest: IndexManifest, dataset: Embeddings, base: Location) -> Interval | None:
        seed = manifest.configuration["seed"]
        return recall_of_new(dataset, self.folder / "index", base, DEFAULT_CACHE.expanduser(), seed)

    def _why_train(self, manifest: IndexManifest, of_new: Interval | None) -> str:
        """How the old training misses a target that it reached before, in all or on new rows apart; empty where it does not."""
        if self.base is None or not self.base.met_target:
            return ""
        if manifest.target_met is False:
            return f"fell to {recall_of(manifest):.4f}"
        missed = of_new is not None and of_new.high < manifest.target_recall
        return f"is {_on_new(manifest, of_new)}" if missed and of_new is not None else ""

    def _build(self, build: "Build") -> IndexManifest:
        return build_stage(build, self.run.cluster, self.reporter).manifest

    def evaluate(self, plan: Forecast) -> Report | None:
        """The report of the version, with what making it should take and took."""
        if self.run.evaluate is None:
            return None
        places = {
            "embeddings": (self.folder / "embeddings").uri,
            "index": (self.folder / "index").uri if self.run.index is not None else None,
            "output": (self.folder / "report").uri,
        }
        report = replacing(
            self.run.evaluate.model_copy(update=places),
            lambda chosen: evaluate_stage(chosen, self.reporter, plan=plan, cluster=self.run.cluster),
        ).manifest
        self.tell("evaluate", f"report.html, {len(report.absences)} things not measured")
        return report


def _on_new(manifest: IndexManifest, found: Interval) -> str:
    return f"{found.value:.4f} on {found.n:,} {manifest.query_kind} of new rows"
