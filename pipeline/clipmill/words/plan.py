"""A run that writes texts, before any picture is read: what is to be done, and what is done already. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from clipmill.core.schemas import REJECTED, ROWS_PER_SHARD, TEXTS
from clipmill.core.settings import AskSettings, GeneratorSettings
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.core.text_manifests import GeneratorIdentity, TextsManifest
from clipmill.source.columns import Columns, choose_columns
from clipmill.source.cutting import plan_units
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.planned import Progress, footers_of, refuse_output_in_input
from clipmill.source.reading import refuse_urls
from clipmill.source.units import Units
from clipmill.stage.kinds import TEXTS as KIND
from clipmill.stage.stage import configuration_differences
from clipmill.stage.units.follow import Followed
from clipmill.stage.units.layout import Layout, Part
from clipmill.stage.units.reject_limit import RejectLimit
from clipmill.words.asking import Asking
from clipmill.words.over_units import OverUnits
from clipmill.words.sums import TextSums

MOST_ROWS, LEAST_ROWS, LEAST_UNITS = 64, 8, 32
"""Rows of a unit, which is what a killed run asks again: a small input has many units too."""


@dataclass(frozen=True)
class WordsPlan(OverUnits[TextsManifest]):
    """Everything that a run does, fixed before it starts."""

    kind = KIND
    settings: GeneratorSettings
    inputs: list[InputFile]
    columns: Columns
    identity: GeneratorIdentity
    asking: Asking
    examples_sha256: str | None
    units: Units
    removed: Takedown = NOTHING
    """What was taken down: nothing is written about it."""

    name: ClassVar[str] = "caption"
    doing: ClassVar[str] = "writing about units of rows"

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The settings that decide the content, with the prompt that they come to."""
        examples = {"examples_sha256": self.examples_sha256} if self.examples_sha256 else {}
        return {**self.settings.content(), "prompt": self.asking.prompt, **examples}

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for work done under one plan to be of use under another. Texts know their ids, so ids that were taken
        down since are left out of what is finished, and nobody is asked twice; contents are known here alone."""
        return {
            **self.of_units(Takedown(contents=self.removed.contents)),
            "configuration": self.configuration,
            "model": self.identity.model_dump(mode="json", exclude={"pretrained"}),
            "columns": self.described_columns,
        }

    @property
    def described_columns(self) -> dict[str, Any]:
        """Which source column plays which part."""
        kept = [name for name, _ in self.columns.kept]
        return {"image": self.columns.image_column, "id": self.columns.id_column, "question": next(iter(kept), None)}

    def differences(self, found: TextsManifest) -> list[str]:
        """How texts at the output differ from what this plan makes, in words."""
        unset = dict.fromkeys(self.settings.LATER)
        told = configuration_differences(found.configuration, {**unset, **self.configuration})
        told += [f"model {difference}" for difference in found.generator.differences(self.identity)]
        if not told and found.configuration.get("inputs_digest") != self.inputs_digest:
            told.append("the input files have changed since")
        return told

    @property
    def units_per_shard(self) -> int:
        """Units that become one file."""
        return max(1, ROWS_PER_SHARD // int(self.units.rows.max(initial=1)))

    @cached_property
    def layout(self) -> Layout[TextSums]:
        return Layout(
            staging=self.staging.folder,
            token=self.staging.token,
            units=len(self.units),
            units_per_shard=self.units_per_shard,
            parts=(Part("texts", TEXTS), Part("rejected", REJECTED)),
            sums=TextSums,
        )


@dataclass(frozen=True)
class AskPlan(WordsPlan):
    """The same, of questions."""

    name: ClassVar[str] = "ask"


@dataclass(frozen=True)
class WordsSource:
    """What is written about: the files, in ascending order of their ordinals, and what their columns are."""

    inputs: list[InputFile]
    columns: Columns


def find_source(settings: GeneratorSettings, inputs: list[InputFile] | None = None) -> WordsSource:
    """Reads the footers of the input, unless its files are given. Raises UserError for input that cannot be used."""
    if inputs is None:
        inputs = find_inputs(settings.input, footers_of(settings.output))
    question = settings.question_column if isinstance(settings, AskSettings) else None
    columns = choose_columns(
        inputs,
        image_column=settings.image_column,
        id_column=settings.id_column,
        keep_columns=(question,) if question else (),
    )
    refuse_urls(inputs, columns)
    refuse_output_in_input(settings.input, settings.output, inputs)
    return WordsSource(inputs, replace(columns, caption_column=None, caption_is_list=False))


def make_plan(
    settings: GeneratorSettings,
    source: WordsSource,
    identity: GeneratorIdentity,
    asking: Asking,
    examples_sha256: str | None,
    removed: Takedown = NOTHING,
) -> WordsPlan:
    """Cuts the rows of the source into units; nothing is written about what was ``removed``."""
    rows = sum(file.rows for file in source.inputs)
    if settings.limit is not None:
        rows = min(rows, settings.limit)
    each = min(MOST_ROWS, max(LEAST_ROWS, -(-rows // LEAST_UNITS)))
    units = plan_units(source.inputs, each, settings.limit)
    kind = AskPlan if isinstance(settings, AskSettings) else WordsPlan
    return kind(settings, source.inputs, source.columns, identity, asking, examples_sha256, units, removed)


def followed(plan: WordsPlan, progress: Progress) -> Followed[TextSums]:
    """The run that is left to do, as it is followed."""
    limit = RejectLimit(plan.settings.max_rejects, TextSums, "pictures")
    return Followed(
        plan.name,
        plan.layout,
        limit,
        plan.rows,
        progress.start.rows_reused,
        progress.todo.numbers,
        progress.finished,
    )
