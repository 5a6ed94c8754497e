"""Source Parquet to examples: which files and columns are read, and what one row gives to learn from."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from io import BytesIO

import pyarrow as pa
import torch

from clipmill.core.errors import UserError
from clipmill.encoders.protocol import Preparation
from clipmill.encoders.spectrogram import Spectrogram
from clipmill.evaluation.classification.templates import prompts
from clipmill.source.columns import Columns, choose_columns
from clipmill.source.cutting import plan_units, rows_per_unit
from clipmill.source.decode import Rejected, decode_image, load_image_bytes
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs, locate
from clipmill.source.media import MediumName, refuse_missing_packages
from clipmill.source.reading import read_units
from clipmill.source.sound import Hearing, open_sound
from clipmill.source.units import Unit
from clipmill.storage import Location
from clipmill.train.augment import Augment
from clipmill.train.mined import Mined

NEGATIVES_COLUMN = "negative_caption"
"""Optional, list<string>: captions that are false of the image, as further texts to tell the true one from."""

_MAX_IMAGE_PIXELS = 178_956_970

Texts = list[list[str | None] | None]
"""Of every row of a unit, as they stand in the input."""


@dataclass(frozen=True)
class Example:
    """One usable row: its prepared picture, uint8 (3, height, width), its captions, and captions false of it. Where a model
    learns to answer, ``captions`` are answers, each to the one of the ``questions`` at its place."""

    pixels: torch.Tensor
    captions: tuple[str, ...]
    negatives: tuple[str, ...]
    label: str | None = None
    questions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """The Parquet files behind ``--input`` or ``--validation``, and how their pictures are prepared."""

    uri: str
    inputs: tuple[InputFile, ...]
    columns: Columns
    pictures: Preparation
    templates: tuple[str, ...] = ()
    """Each with a ``{}``: what makes captions of labels, where the caption column holds labels."""
    allowed: tuple[str, ...] = ()
    without: frozenset[bytes] = frozenset()
    """sha256 of encoded pictures that are left out."""
    mined: Mined | None = None
    """Captions that are false of an image, found in an index; in place of the column of such."""
    question_column: str | None = None
    """What the texts are the answers to."""
    sounds: Spectrogram | None = None
    """How sounds become pictures, where the model hears."""

    @staticmethod
    def open(
        uri: str,
        pictures: Preparation,
        image_column: str | None,
        caption_column: str | None,
        allowed: tuple[str, ...] = (),
        labels: tuple[str, tuple[str, ...]] | None = None,
        audio_column: str | None = None,
        sounds: Spectrogram | None = None,
    ) -> "Source":
        """Raises UserError when there is nothing to read, or no image column or no caption column in it. ``allowed`` are
        folders and prefixes that images may lie in besides that of the file that names them. ``labels`` are a column of
        labels and the templates that make captions of them, in place of a column of captions."""
        inputs = tuple(find_inputs(uri))
        column, templates = labels or (caption_column, ())
        known = dict.fromkeys(name for file in inputs for name in file.schema.names)
        if labels and column not in known:
            raise UserError(f"--label-column {column}: {uri} has no such column; there are {', '.join(known)}")
        columns = choose_columns(
            inputs, image_column=image_column, caption_column=column, keep_columns=(), audio_column=audio_column
        )
        columns = replace(columns, video_column=None, video_kind=None)
        if sounds is None:
            columns = replace(columns, audio_column=None, audio_kind=None)
        elif columns.audio_column is not None:
            refuse_missing_packages("audio")
        if {columns.image_column, columns.audio_column} == {None} or columns.caption_column is None:
            missing = "caption" if columns.caption_column is None else "image"
            raise UserError(
                f"{uri}: training needs images and captions, and no {missing} column was found; "
                f"name it with --{missing}-column"
                + (", or a column of labels with --label-column" * (missing == "caption"))
            )
        return Source(uri, inputs, columns, pictures, templates, allowed, sounds=sounds)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        rows = sum(file.rows for file in self.inputs)
        return tuple(plan_units(self.inputs, rows_per_unit(*self.pictures.size, rows)))

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)

    def contents(self) -> frozenset[bytes]:
        """sha256 of every encoded picture, a unit in memory at a time; those that cannot be read are passed over."""
        read = (rows.item(at) for unit in self.units for rows in self.read([unit]) for at in range(len(rows)))
        return frozenset(sha256(data).digest() for data in read if data is not None)

    def read(self, units: Sequence[Unit]) -> Iterator["Rows"]:
        """The rows of these units, undecoded, one `Rows` a unit."""
        places = {file.ordinal: locate(file.path) for file in self.inputs}
        tables = read_units(units, self.inputs, self.columns)
        beside = zip(tables, self._negatives(units), self._questions(units), strict=True)
        for unit, (table, negatives, questions) in zip(units, beside, strict=True):
            sources = [places[span.ordinal] for span in unit.spans for _ in range(span.rows)]
            yield Rows(table, negatives, sources, self, questions)

    def _negatives(self, units: Sequence[Unit]) -> Iterator[list[list[str]]]:
        if self.mined is not None:
            yield from (self.mined.of(unit) for unit in units)
            return
        if not any(NEGATIVES_COLUMN in file.schema.names for file in self.inputs):
            for unit in units:
                yield [[] for _ in range(unit.rows)]
            return
        for rows in self._texts(units, NEGATIVES_COLUMN, is_list=True):
            yield [_usable(texts) for texts in rows]

    def paired(self) -> Iterator[tuple[Texts, Texts]]:
        """The texts of every unit, and the questions that they answer, as they stand in the input."""
        assert self.question_column is not None
        assert self.columns.caption_column is not None
        both = (self.columns.caption_column, self.question_column)
        is_list = self.columns.caption_is_list
        yield from zip(*(self._texts(self.units, column, is_list=is_list) for column in both), strict=True)

    def _questions(self, units: Sequence[Unit]) -> Iterator[Texts | None]:
        if self.question_column is None:
            yield from (None for _ in units)
        else:
            yield from self._texts(units, self.question_column, is_list=self.columns.caption_is_list)

    def _texts(self, units: Sequence[Unit], column: str, *, is_list: bool) -> Iterator[Texts]:
        """Another column of texts, as it stands in the input."""
        columns = replace(
            self.columns,
            image_column=None,
            image_kind=None,
            audio_column=None,
            audio_kind=None,
            caption_column=column,
            caption_is_list=is_list,
        )
        for table in read_units(units, self.inputs, columns):
            yield table.column("captions").to_pylist()


@dataclass(frozen=True)
class Rows:
    """Rows of one unit with their images still encoded."""

    table: pa.Table
    negatives: list[list[str]]
    sources: list[Location]
    source: Source
    questions: Texts | None = None

    def __len__(self) -> int:
        return len(self.sources)

    @cached_property
    def _captions(self) -> list[list[str]]:
        return [_usable(texts) for texts in self.table.column("captions").to_pylist()]

    def example(self, at: int, augment: Augment | None = None) -> Example | None:
        """One row decoded; None when it has no caption, and neither a readable image nor, where the model hears, a sound.
        ``augment`` alters a picture."""
        (captions, questions), encoded = self._asked(at), self.encoded(at)
        if not captions:
            return None
        label = captions[0] if self.source.templates else None
        if label is not None:
            captions = prompts(self.source.templates, label)
        texts = [*captions, *self.negatives[at]]
        pixels = self._heard(at) if encoded is None else self._seen(encoded, texts, augment)
        if pixels is None:
            return None
        return Example(pixels, tuple(captions), tuple(self.negatives[at]), label, tuple(questions))

    def _asked(self, at: int) -> tuple[list[str], list[str]]:
        """The captions of a row; or answers, and the questions to them."""
        if self.questions is None:
            return self._captions[at], []
        answers, questions = self.table.column("captions")[at].as_py(), self.questions[at]
        if answers is None or questions is None:
            return [], []
        usable = [
            (answer, question)
            for answer, question in zip(answers, questions, strict=True)
            if answer and answer.strip() and question and question.strip()
        ]
        return [answer for answer, _ in usable], [question for _, question in usable]

    def item(self, at: int) -> bytes | None:
        """What is encoded in one row: its picture; where it has none and the model hears, its sound. None where that cannot be
        read: a row teaches by the same however reading goes."""
        heard = self.source.columns.audio_column is not None and not self._has("image", at)
        return self._encoded("audio", at) if heard else self.encoded(at)

    def _has(self, medium: MediumName, at: int) -> bool:
        """Whether a row has one, readable or not."""
        data, path = self.table.column(medium)[at], self.table.column(f"{medium}_path")[at]
        return data.is_valid or path.as_py() is not None

    def encoded(self, at: int) -> bytes | None:
        """The encoded picture of one row; None where there is none, or none that can be read."""
        return self._encoded("image", at)

    def _encoded(self, medium: MediumName, at: int) -> bytes | None:
        data, path = self.table.column(medium)[at], self.table.column(f"{medium}_path")[at].as_py()
        if data.is_valid:
            found: bytes = data.as_py()
            return found
        try:
            return load_image_bytes(path, self.sources[at], self.source.allowed) if path else None
        except Rejected:
            return None

    def _seen(self, encoded: bytes, texts: Sequence[str], augment: Augment | None) -> torch.Tensor | None:
        """A picture, altered and prepared; None for one that cannot be decoded or is left out."""
        picture = None if self._is_left_out(encoded) else decoded(encoded)
        if picture is None:
            return None
        return self.source.pictures.prepare(augment(picture, texts) if augment else picture)

    def _heard(self, at: int) -> torch.Tensor | None:
        """The spectrogram of the beginning of a sound, uint8 (3, side, side), which is never altered: a flip makes another
        sound of it. None where there is none that can be decoded, or it is left out."""
        sounds, encoded = self.source.sounds, self.item(at)
        if sounds is None or encoded is None or self._is_left_out(encoded):
            return None
        try:
            with open_sound(BytesIO(encoded)) as sound:
                (samples,) = sound.heard(Hearing(sounds.rate, sounds.seconds))
        except Rejected:
            return None
        return sounds.pictures(sounds.prepare(samples))[0]

    def _is_left_out(self, encoded: bytes) -> bool:
        without = self.source.without
        return bool(without) and sha256(encoded).digest() in without


def decoded(encoded: bytes) -> torch.Tensor | None:
    """The picture, uint8 (3, height, width); None for one that cannot be decoded."""
    try:
        return decode_image(encoded, _MAX_IMAGE_PIXELS)
    except Rejected:
        return None


def _usable(texts: Sequence[str | None] | None) -> list[str]:
    return [text for text in texts or () if text and text.strip()]


def examples(source: Source, pool: ThreadPoolExecutor, limit: int | None = None) -> Iterator[Example]:
    """The usable rows in the order of the input, at most ``limit`` of them."""
    left = limit if limit is not None else source.rows
    for unit in source.units:
        for rows in source.read([unit]):
            for example in pool.map(rows.example, range(len(rows))):
                if example is not None and left > 0:
                    left -= 1
                    yield example
        if left <= 0:
            return
