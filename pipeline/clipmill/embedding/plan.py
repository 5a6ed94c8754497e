"""An embed run before the cluster: what is to be done, and what is done already.

No Ray here: a plan can be made, shown and compared without a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clipmill.core.manifests import EmbeddingsManifest, ModelIdentity
from clipmill.core.schemas import ROWS_PER_SHARD
from clipmill.core.settings import EmbedSettings
from clipmill.embedding.clip_plan import ClipDecoding, clip_decoding_of, encoded_columns
from clipmill.embedding.layout import Parts
from clipmill.embedding.statistics import Statistics
from clipmill.encoders.library import refuse_unusable_model
from clipmill.source.columns import Columns, choose_columns
from clipmill.source.corrupt import Corruption
from clipmill.source.cutting import plan_units, rows_per_unit
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.planned import Progress, digest_of_inputs, footers_of, refuse_output_in_input
from clipmill.source.reading import refuse_urls
from clipmill.source.units import Units
from clipmill.stage.kinds import EMBEDDINGS
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage, configuration_differences
from clipmill.stage.units.follow import Followed
from clipmill.stage.units.layout import Layout
from clipmill.stage.units.reject_limit import RejectLimit
from clipmill.storage import Location

if TYPE_CHECKING:
    from clipmill.encoders.protocol import Clips, Preparation


@dataclass(frozen=True)
class EmbedSource:
    """What is embedded: the files, in ascending order of their ordinals, and what their columns are."""

    inputs: list[InputFile]
    columns: Columns


@dataclass(frozen=True)
class EmbedPlan(Stage[EmbeddingsManifest]):
    """Everything that an embed run does, fixed before it starts."""

    name = "embed"
    kind = EMBEDDINGS
    settings: EmbedSettings
    inputs: list[InputFile]
    columns: Columns
    identity: ModelIdentity
    preprocessing: Preparation
    units: Units
    clips: Clips | None = None

    def narrowed(self, inputs: list[InputFile], output: str) -> EmbedPlan:
        """The same plan over some files, in ascending order of their ordinals, towards another output."""
        settings = self.settings.model_copy(update={"output": output})
        units = _cut(settings, inputs, self.preprocessing, self.clip_decoding)
        return replace(self, settings=settings, inputs=inputs, units=units)

    @property
    def rows(self) -> int:
        return int(self.units.rows.sum())

    @property
    def _units_per_shard(self) -> int:
        return max(1, ROWS_PER_SHARD // int(self.units.rows.max(initial=1)))

    @property
    def configuration(self) -> dict[str, Any]:
        """The settings that decide the content, as they are written to the manifest."""
        corrupt = {"corrupt": str(self.corruption)} if self.corruption else {}
        return {**self.settings.content(), **corrupt}

    @property
    def corruption(self) -> Corruption | None:
        """How pictures are made worse, if they are. Raises UserError for one that is not known."""
        return Corruption.parse(self.settings.corrupt) if self.settings.corrupt is not None else None

    @cached_property
    def inputs_digest(self) -> str:
        """Of which source files it is."""
        return digest_of_inputs(self.inputs)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for work done under one plan to be of use under another."""
        return {
            "inputs": self.inputs_digest,
            "configuration": self.configuration,
            "model": {
                "weights_sha256": self.identity.weights_sha256,
                "preprocessing": self.identity.preprocessing,
                "tokenizer_sha256": self.identity.tokenizer_sha256,
                "dimension": self.identity.dimension,
            },
            "columns": describe_columns(self.columns),
            "cut": {"rows": self.rows, "units": self.units.sha256, "units a shard": self._units_per_shard},
        }

    def differences(self, found: EmbeddingsManifest) -> list[str]:
        """How embeddings at the output differ from what this plan makes, in words."""
        before, unset = found.configuration, dict.fromkeys(("corrupt", *self.settings.LATER))
        told = configuration_differences(before, {**unset, **self.configuration})
        if found.model is None:
            told.append("it holds imported vectors")
        else:
            told += [f"model {difference}" for difference in found.model.differences(self.identity)]
        if not told and before.get("inputs_digest") != self.inputs_digest:
            told.append("the input files have changed since")
        return told

    @property
    def outline(self) -> Outline:
        """Units that are embedded, and then made into shards, the last of which may hold fewer."""
        last = self.layout.shards - 1
        shards = {f"shards/{last:05d}.json": len(self.layout.units_of(last)), "shards/*.json": self._units_per_shard}
        files = {"units/*/*.arrow": 1, **shards}
        return Outline(
            stage=self.name,
            unit="rows",
            amount=self.rows,
            steps=(
                Step(doing="embedding units of rows", total=len(self.units), files=files, replaced_by="shards/{}.json"),
            ),
        )

    @cached_property
    def parts(self) -> Parts:
        """What the tables of the dataset hold."""
        kept = tuple(field for _, field in self.columns.kept)
        thumbnails = self.settings.thumbnails is not None
        return Parts(self.identity.dimension, kept, thumbnails, self.columns.clips, self.keeps_frames)

    @property
    def keeps_frames(self) -> bool:
        """Whether each picture of a video has a vector of its own."""
        return bool(self.settings.frames == "keep")

    @cached_property
    def clip_decoding(self) -> ClipDecoding | None:
        """How sounds and videos are decoded; None where the input has none."""
        return clip_decoding_of(self.settings, self.columns, self.clips)

    @cached_property
    def layout(self) -> Layout[Statistics]:
        return Layout(
            self.staging.folder,
            self.staging.token,
            units=len(self.units),
            units_per_shard=self._units_per_shard,
            parts=self.parts.all,
            sums=Statistics,
        )


def find_source(settings: EmbedSettings, footers: Location | None = None, *, keep: bool = True) -> EmbedSource:
    """Reads the footers of the input; no model is needed for it. ``footers`` is where those read before are kept, if not in
    the staging folder; with ``keep`` false nothing is added to it. Raises UserError for input that cannot be used."""
    refuse_unusable_model(settings.model_settings)
    if settings.corrupt is not None:
        Corruption.parse(settings.corrupt)
    inputs = find_inputs(settings.input, footers or footers_of(settings.output), keep=keep)
    columns = choose_columns(
        inputs,
        image_column=settings.image_column,
        caption_column=settings.caption_column,
        id_column=settings.id_column,
        keep_columns=settings.keep_columns,
        audio_column=settings.audio_column,
        video_column=settings.video_column,
    )
    refuse_urls(inputs, columns)
    refuse_output_in_input(settings.input, settings.output, inputs)
    return EmbedSource(inputs, columns)


def make_plan(
    settings: EmbedSettings,
    source: EmbedSource,
    identity: ModelIdentity,
    preprocessing: Preparation,
    clips: Clips | None = None,
) -> EmbedPlan:
    """Cuts the rows of the source into units for a model. ``clips`` says how it prepares sounds and videos. Raises UserError
    for columns that it cannot encode."""
    columns = encoded_columns(settings, source.columns, identity)
    decoding = clip_decoding_of(settings, columns, clips)
    units = _cut(settings, source.inputs, preprocessing, decoding)
    return EmbedPlan(settings, source.inputs, columns, identity, preprocessing, units, clips)


def _cut(
    settings: EmbedSettings, inputs: list[InputFile], preprocessing: Preparation, clips: ClipDecoding | None
) -> Units:
    rows = sum(file.rows for file in inputs)
    if settings.limit is not None:
        rows = min(rows, settings.limit)
    return plan_units(inputs, rows_per_unit(*preprocessing.size, rows, clips.row_bytes if clips else 0), settings.limit)


def followed(plan: EmbedPlan, progress: Progress) -> Followed[Statistics]:
    """The run that is left to do, as it is followed."""
    limit = RejectLimit(plan.settings.max_rejects, Statistics, "items" if plan.columns.clips else "images and captions")
    reused, todo = progress.start.rows_reused, progress.todo.numbers
    return Followed(plan.name, plan.layout, limit, plan.rows, reused, todo, progress.finished)


def describe_columns(columns: Columns) -> dict[str, Any]:
    """Which source column plays which part."""
    return {
        "image": columns.image_column,
        "caption": columns.caption_column,
        "id": columns.id_column,
        "kept": [name for name, _ in columns.kept],
        **{medium: columns.column_of(medium) for medium in columns.clips},
    }


def describe(plan: EmbedPlan) -> dict[str, Any]:
    """A plan in numbers, for `--dry-run`."""
    return {
        "files": len(plan.inputs),
        "rows": plan.rows,
        "units": len(plan.units),
        "shards": plan.layout.shards,
        "columns": describe_columns(plan.columns),
        "model": plan.identity.name,
        "dimension": plan.identity.dimension,
        "embedding_bytes": plan.rows * plan.identity.dimension * 2,
        "output": plan.output.uri,
    }
