"""A run that filters captions, before any picture is read: what is to be done, and what is done already. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from clipmill.core.errors import UserError
from clipmill.core.schemas import DROPPED_TEXTS, ROWS_PER_SHARD, captioned_schema
from clipmill.core.settings import RecaptionSettings
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.core.text_manifests import CaptionedManifest, ScorerIdentity
from clipmill.source.columns import Columns, choose_columns, with_every_column
from clipmill.source.cutting import plan_units
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.planned import digest_of_inputs, footers_of, refuse_output_in_input
from clipmill.source.reading import refuse_urls
from clipmill.source.units import Units
from clipmill.stage.kinds import CAPTIONED
from clipmill.stage.stage import configuration_differences
from clipmill.stage.units.layout import ROW_GROUP_ROWS, Layout, Part
from clipmill.words.capfilt.sums import CapfiltSums
from clipmill.words.over_units import OverUnits
from clipmill.words.written import Written

MOST_ROWS = 64
"""Rows of a unit, which is what a killed run scores again."""
FILE_BYTES, GROUP_BYTES = 512 << 20, 64 << 20
"""Of a file and of a row group, about: both hold pictures."""
PATH_BYTES = 128 << 10
"""What a picture is taken to have that lies in a file of its own."""
ITM_THRESHOLD = 0.5
"""Where the head's two probabilities are equal (Li et al. 2022)."""


@dataclass(frozen=True)
class RecaptionPlan(OverUnits[CaptionedManifest]):
    """Everything that a run does, fixed before it starts."""

    name: ClassVar[str] = "recaption"
    doing: ClassVar[str] = "scoring texts of units of rows"
    kind = CAPTIONED
    settings: RecaptionSettings
    inputs: list[InputFile]
    columns: Columns
    written: Written
    identity: ScorerIdentity
    units: Units
    removed: Takedown = NOTHING
    """What was taken down, of which nothing is written."""

    @property
    def threshold(self) -> float | None:
        """The threshold; None where it is chosen from the data."""
        given = self.settings.threshold
        return ITM_THRESHOLD if given is None and self.settings.filter == "itm" else given

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for work done under one plan to be of use under another."""
        return {
            **self.of_units(self.removed),
            "texts": self.written.manifest_sha256,
            "configuration": self.settings.content(),
            "model": self.identity.model_dump(mode="json", exclude={"pretrained"}),
            "columns": [str(field) for field in self.schema],
        }

    def differences(self, found: CaptionedManifest) -> list[str]:
        """How captioned rows at the output differ from what this plan makes, in words."""
        told = configuration_differences(found.configuration, self.settings.content())
        told += [f"model {difference}" for difference in found.scorer.differences(self.identity)]
        if found.texts_manifest_sha256 != self.written.manifest_sha256:
            told.append(f"the texts are not those of {found.texts}, or were made anew")
        if not told and found.configuration.get("inputs_digest") != self.inputs_digest:
            told.append("the input files have changed since")
        return told

    @property
    def image_column(self) -> str:
        """What the column of pictures is called that is written: where the source has paths, their bytes are in ``image``."""
        named = self.columns.image_column
        return "image" if named is None or self.columns.image_kind == "path" else named

    @cached_property
    def schema(self) -> pa.Schema:
        """Of what comes out."""
        fields = [field for _, field in self.columns.kept]
        return captioned_schema(self.image_column, fields, recap=self.settings.recap_columns)

    @property
    def _row_bytes(self) -> int:
        """Of a row, about."""
        size = sum(sum(file.row_group_bytes) for file in self.inputs)
        rows = max(1, sum(file.rows for file in self.inputs))
        return max(1, PATH_BYTES if self.columns.image_kind == "path" else -(-size // rows))

    @property
    def units_per_shard(self) -> int:
        """Units that become one file."""
        rows = min(ROWS_PER_SHARD, FILE_BYTES // self._row_bytes)
        return max(1, rows // int(self.units.rows.max(initial=1)))

    @cached_property
    def layout(self) -> Layout[CapfiltSums]:
        group = max(1, min(ROW_GROUP_ROWS, GROUP_BYTES // self._row_bytes))
        return Layout(
            staging=self.staging.folder,
            token=self.staging.token,
            units=len(self.units),
            units_per_shard=self.units_per_shard,
            parts=(Part("captioned", self.schema, group), Part("dropped", DROPPED_TEXTS)),
            sums=CapfiltSums,
        )


@dataclass(frozen=True)
class Pooling:
    """What is filtered: the source files, what their columns are, and the texts about them."""

    inputs: list[InputFile]
    columns: Columns
    written: Written


def find_pooling(settings: RecaptionSettings, inputs: list[InputFile] | None = None) -> Pooling:
    """Reads the footers of the input, unless its files are given, and the manifest of the texts. Raises UserError for what
    cannot be used, and for texts about another input."""
    if inputs is None:
        inputs = find_inputs(settings.input, footers_of(settings.output))
    columns = choose_columns(
        inputs,
        image_column=settings.image_column,
        caption_column=settings.caption_column,
        id_column=settings.id_column,
        keep_columns=(),
    )
    if columns.image_column is None:
        raise UserError(f"{settings.input} has no column of pictures: name it with --image-column")
    refuse_urls(inputs, columns)
    refuse_output_in_input(settings.input, settings.output, inputs)
    written = Written.open(settings.texts)
    written.refuse_other_input(digest_of_inputs(inputs), settings.input)
    return Pooling(inputs, columns, written)


def make_plan(
    settings: RecaptionSettings, pooling: Pooling, identity: ScorerIdentity, removed: Takedown = NOTHING
) -> RecaptionPlan:
    """Cuts the rows of the input into units; nothing is written of what was ``removed``."""
    units = plan_units(pooling.inputs, MOST_ROWS, settings.limit)
    made = RecaptionPlan(settings, pooling.inputs, pooling.columns, pooling.written, identity, units)
    names = captioned_schema(made.image_column, recap=settings.recap_columns).names
    columns = with_every_column(pooling.inputs, pooling.columns, names)
    return replace(made, columns=columns, removed=removed)


def drawn(units: Units, rows: int) -> Sequence[int]:
    """Places of units, evenly over all, that have about so many rows together."""
    count = min(len(units), max(1, -(-rows // max(1, int(units.rows.max(initial=1))))))
    return [at * len(units) // count for at in range(count)]
