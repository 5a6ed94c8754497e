"""Texts beside what the input says of the same rows: references, right answers, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.core.settings import TextEvaluationSettings
from clipmill.evaluation.texts.overlap import Words
from clipmill.evaluation.texts.tokens import tokens
from clipmill.source.columns import Columns, choose_columns
from clipmill.source.cutting import plan_units
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.planned import digest_of_inputs
from clipmill.source.reading import read_units, with_sources
from clipmill.source.units import Units
from clipmill.words.written import Written

ROWS_AT_ONCE = 256
"""Rows whose pictures are read together: what a killed evaluation reads again."""
_ASKED = ("question", "question_column", "choices")


@dataclass(frozen=True)
class Source:
    """The input that texts are about. ``references`` and ``answers`` are columns with these, None where there are none."""

    inputs: list[InputFile]
    columns: Columns
    references: str | None
    answers: str | None
    units: Units

    def captions_of(self, column: str) -> dict[int, list[str]]:
        """The strings of a column of strings or of lists of them, by row; without empty ones."""
        chosen = choose_columns(self.inputs, image_column=None, caption_column=column, keep_columns=())
        bare = replace(chosen, image_column=None, image_kind=None)
        found: dict[int, list[str]] = {}
        for raw in read_units(self.units, self.inputs, bare):
            for row, texts in zip(raw.column("row").to_pylist(), raw.column("captions").to_pylist(), strict=True):
                if given := [text for text in texts or () if text and text.strip()]:
                    found[row] = given
        return found

    def pictures(self, units: Units) -> Iterator[pa.Table]:
        """Raw units with their pictures and the files that they are of."""
        bare = replace(self.columns, caption_column=None, caption_is_list=False)
        for raw in read_units(units, self.inputs, bare):
            yield with_sources(raw, self.inputs)

    def unit_of(self, row: int) -> Units:
        """The unit that a row is in."""
        ordinal, number = row >> ORDINAL_SHIFT, row & ((1 << ORDINAL_SHIFT) - 1)
        units = self.units
        at = np.flatnonzero((units.ordinals == ordinal) & (units.starts <= number) & (number < units.stops))[0]
        return units.take([int(np.searchsorted(units.first, at, side="right")) - 1])


def open_source(settings: TextEvaluationSettings, written: Written) -> Source:
    """The input of the texts, at the place that their manifest says or another that is given. Raises UserError where other
    files are there, and for columns that are not there or fit no part."""
    place = settings.input or str(written.manifest.configuration.get("input"))
    inputs = find_inputs(place)
    written.refuse_other_input(digest_of_inputs(inputs), place)
    known = {name for file in inputs for name in file.schema.names}
    for option, name in (
        ("--reference-column", settings.reference_column),
        ("--answer-column", settings.answer_column),
    ):
        if name is not None and name not in known:
            raise UserError(f"{option} {name}: {place} has no such column; there are {', '.join(sorted(known))}")
    columns = choose_columns(
        inputs, image_column=settings.image_column, caption_column=settings.reference_column, keep_columns=()
    )
    asked = any(written.manifest.configuration.get(name) for name in _ASKED)
    references = settings.reference_column or (None if asked else columns.caption_column)
    return Source(inputs, columns, references, settings.answer_column, plan_units(inputs, ROWS_AT_ONCE))


@dataclass(frozen=True)
class Corpus:
    """Texts in order of rows: ``rows`` int64 (t,), ``texts`` (t,); ``references`` and ``answers`` by row."""

    rows: NDArray[np.int64]
    texts: tuple[str, ...]
    references: dict[int, list[str]]
    answers: dict[int, list[str]]

    @staticmethod
    def of(written: Written, source: Source) -> Corpus:
        """Reads everything but pictures."""
        table = written.all()
        return Corpus(
            table.column("row").to_numpy(),
            tuple(table.column("text").to_pylist()),
            source.captions_of(source.references) if source.references else {},
            source.captions_of(source.answers) if source.answers else {},
        )

    @cached_property
    def words(self) -> tuple[Words, ...]:
        """The words of each text."""
        return tuple(map(tokens, self.texts))

    @cached_property
    def reference_words(self) -> dict[int, Sequence[Words]]:
        """The words of the references of rows that have texts."""
        return {
            row: [tokens(text) for text in self.references[row]]
            for row in np.unique(self.rows).tolist()
            if row in self.references
        }

    def places_with(self, known: dict[int, list[str]]) -> list[int]:
        """The places of texts whose row is among these."""
        return [at for at, row in enumerate(self.rows.tolist()) if row in known]
