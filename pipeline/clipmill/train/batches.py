"""Source Parquet to training batches, in an order that seed and step alone decide.

Units of rows are shuffled, then the rows of a window of neighbouring units: disks read forwards, memory holds one
window of encoded images, and a run that resumes reads nothing of what it has passed.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.encoders.preprocess import Preprocessing
from clipmill.evaluation.classification.templates import prompts
from clipmill.source.columns import Columns, choose_columns
from clipmill.source.decode import Rejected, decode_image, load_image_bytes
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs, locate
from clipmill.source.reading import read_units
from clipmill.source.units import Unit, plan_units, rows_per_unit
from clipmill.storage import Location
from clipmill.train.augment import NOTHING, Augment, Augmentation
from clipmill.train.truth import Part
from clipmill.train.word_exchange import exchanged

NEGATIVES_COLUMN = "negative_caption"
"""Optional, list<string>: captions that are false of the image, as further texts to tell the true one from."""

_WINDOW_UNITS = 16
_MAX_IMAGE_PIXELS = 178_956_970

Item = TypeVar("Item")


@dataclass(frozen=True)
class Example:
    """One usable row: its prepared picture, uint8 (3, height, width), its captions, and captions false of it."""

    pixels: torch.Tensor
    captions: tuple[str, ...]
    negatives: tuple[str, ...]
    label: str | None = None


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step: uint8 (n, 3, height, width), a caption each, negatives of some, and all captions each."""

    pixels: torch.Tensor
    texts: list[str]
    negatives: list[str]
    captions: list[tuple[str, ...]]

    @cached_property
    def part(self) -> Part:
        """What the other workers need to know of it."""
        return Part.of(self.texts, self.negatives, self.captions)


@dataclass(frozen=True)
class Sampling:
    """How rows become batches. ``batch_size`` is that of all workers together, ``negative_share`` the share of images that
    bring a negative; ``exchange_words`` makes negatives of captions where the input has none."""

    batch_size: int
    seed: int
    negative_share: float = 0.0
    exchange_words: bool = False
    augmentation: Augmentation = NOTHING


@dataclass(frozen=True)
class Source:
    """The Parquet files behind ``--input`` or ``--validation``, and how their pictures are prepared."""

    uri: str
    inputs: tuple[InputFile, ...]
    columns: Columns
    preprocessing: Preprocessing
    templates: tuple[str, ...] = ()
    """Each with a ``{}``: what makes captions of labels, where the caption column holds labels."""
    allowed: tuple[str, ...] = ()
    without: frozenset[bytes] = frozenset()
    """sha256 of encoded pictures that are left out."""

    @staticmethod
    def open(
        uri: str,
        preprocessing: Preprocessing,
        image_column: str | None,
        caption_column: str | None,
        allowed: tuple[str, ...] = (),
        labels: tuple[str, tuple[str, ...]] | None = None,
    ) -> "Source":
        """Raises UserError when there is nothing to read, or no image column or no caption column in it. ``allowed`` are
        folders and prefixes that images may lie in besides that of the file that names them. ``labels`` are a column of
        labels and the templates that make captions of them, in place of a column of captions."""
        inputs = tuple(find_inputs(uri))
        column, templates = labels or (caption_column, ())
        known = dict.fromkeys(name for file in inputs for name in file.schema.names)
        if labels and column not in known:
            raise UserError(f"--label-column {column}: {uri} has no such column; there are {', '.join(known)}")
        columns = choose_columns(inputs, image_column=image_column, caption_column=column, keep_columns=())
        if columns.image_column is None or columns.caption_column is None:
            missing = "image" if columns.image_column is None else "caption"
            raise UserError(
                f"{uri}: training needs images and captions, and no {missing} column was found; "
                f"name it with --{missing}-column"
                + (", or a column of labels with --label-column" * (missing == "caption"))
            )
        return Source(uri, inputs, columns, preprocessing, templates, allowed)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        rows = sum(file.rows for file in self.inputs)
        return tuple(plan_units(self.inputs, rows_per_unit(*self.preprocessing.size, rows)))

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)

    def contents(self) -> frozenset[bytes]:
        """sha256 of every encoded picture, a unit in memory at a time; those that cannot be read are passed over."""
        read = (rows.encoded(at) for unit in self.units for rows in self.read([unit]) for at in range(len(rows)))
        return frozenset(sha256(data).digest() for data in read if data is not None)

    def read(self, units: Sequence[Unit]) -> Iterator["Rows"]:
        """The rows of these units, undecoded, one `Rows` a unit."""
        places = {file.ordinal: locate(file.path) for file in self.inputs}
        for unit, table, negatives in zip(
            units, read_units(units, self.inputs, self.columns), self._negatives(units), strict=True
        ):
            sources = [places[span.ordinal] for span in unit.spans for _ in range(span.rows)]
            yield Rows(table, negatives, sources, self)

    def _negatives(self, units: Sequence[Unit]) -> Iterator[list[list[str]]]:
        if not any(NEGATIVES_COLUMN in file.schema.names for file in self.inputs):
            for unit in units:
                yield [[] for _ in range(unit.rows)]
            return
        columns = replace(
            self.columns, image_column=None, image_kind=None, caption_column=NEGATIVES_COLUMN, caption_is_list=True
        )
        for table in read_units(units, self.inputs, columns):
            yield [_usable(texts) for texts in table.column("captions").to_pylist()]


@dataclass(frozen=True)
class Rows:
    """Rows of one unit with their images still encoded."""

    table: pa.Table
    negatives: list[list[str]]
    sources: list[Location]
    source: Source

    def __len__(self) -> int:
        return len(self.sources)

    @cached_property
    def _captions(self) -> list[list[str]]:
        return [_usable(texts) for texts in self.table.column("captions").to_pylist()]

    def example(self, at: int, augment: Augment | None = None) -> Example | None:
        """One row decoded; None when it has no caption or no readable image. ``augment`` alters the picture."""
        captions, encoded = self._captions[at], self.encoded(at)
        if not captions or encoded is None or self._is_left_out(encoded):
            return None
        try:
            picture = decode_image(encoded, _MAX_IMAGE_PIXELS)
        except Rejected:
            return None
        label = captions[0] if self.source.templates else None
        if label is not None:
            captions = prompts(self.source.templates, label)
        texts = [*captions, *self.negatives[at]]
        pixels = self.source.preprocessing.prepare(augment(picture, texts) if augment else picture)
        return Example(pixels, tuple(captions), tuple(self.negatives[at]), label)

    def encoded(self, at: int) -> bytes | None:
        """The encoded picture of one row; None where there is none, or none that can be read."""
        data, path = self.table.column("image")[at], self.table.column("image_path")[at].as_py()
        if data.is_valid:
            found: bytes = data.as_py()
            return found
        try:
            return load_image_bytes(path, self.sources[at], self.source.allowed) if path else None
        except Rejected:
            return None

    def _is_left_out(self, encoded: bytes) -> bool:
        without = self.source.without
        return bool(without) and sha256(encoded).digest() in without


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


def batches(
    source: Source, sampling: Sampling, first_step: int, pool: ThreadPoolExecutor, rank: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """The parts that worker ``rank`` has of batches without end, from step ``first_step`` on: the same rows, captions and
    alterations whatever step a run began at and however many workers share a batch.

    Every epoch passes each row once, but for a rest smaller than a batch. Rows that cannot be used are left out, so a
    part may be smaller. Raises UserError when the input has fewer than two rows, or nothing of a part can be used.
    """
    size = min(sampling.batch_size, source.rows)
    if size < 2:
        has = "one row" if source.rows == 1 else f"{source.rows} rows"
        raise UserError(f"{source.uri} has {has}; contrastive training needs at least two")
    if size < workers:
        raise UserError(f"a batch of {size} rows cannot be shared by {workers} workers; use fewer --workers")
    steps_an_epoch = source.rows // size
    mine = range(rank * size // workers, (rank + 1) * size // workers)
    step = first_step
    while True:
        epoch, skip = divmod(step, steps_an_epoch)
        for chosen in _epoch(source, size, (sampling.seed, epoch), skip):
            draws = _Draws.of(sampling, size, (sampling.seed, epoch, step % steps_an_epoch))
            picked = pool.map(lambda at, chosen=chosen, draws=draws: draws.pick(at, *chosen[at]), mine)
            found = [one for one in picked if one is not None]
            if len(found) < min(2, len(mine)):
                held_out = " and are not held out by --validation" if source.without else ""
                raise UserError(
                    f"{source.uri}: of {len(mine)} rows of a batch only {len(found)} have a readable image and a caption"
                    f"{held_out}; `clipmill embed` on the same input lists what is wrong with each row"
                )
            yield assemble(found)
            step += 1


@dataclass(frozen=True)
class Picked:
    """An example with the caption that was drawn for this step, and the negative if one was."""

    example: Example
    text: str
    negative: str | None


@dataclass(frozen=True)
class _Draws:
    """What lot decides about each row of a batch, before it is known which rows can be used."""

    sampling: Sampling
    seed: tuple[int, ...]
    caption: NDArray[np.float64]
    negative: NDArray[np.float64]
    asked: NDArray[np.bool_]

    @staticmethod
    def of(sampling: Sampling, size: int, seed: tuple[int, ...]) -> "_Draws":
        random = np.random.default_rng(seed)
        asked = random.permutation(size) < round(sampling.negative_share * size)
        return _Draws(sampling, seed, random.random(size), random.random(size), asked)

    def pick(self, at: int, rows: Rows, row: int) -> Picked | None:
        """The row at a position of the batch; None when it cannot be used."""
        augment = self.sampling.augmentation.drawn(np.random.default_rng((*self.seed, at)))
        example = rows.example(row, augment)
        if example is None:
            return None
        text = example.captions[int(self.caption[at] * len(example.captions))]
        return Picked(example, text, self._negative(at, example, text) if self.asked[at] else None)

    def _negative(self, at: int, example: Example, text: str) -> str | None:
        among: Sequence[str] = example.negatives
        if not among and self.sampling.exchange_words:
            among = [other for other in exchanged(text) if other not in example.captions]
        return among[int(self.negative[at] * len(among))] if among else None


def _epoch(source: Source, size: int, seed: tuple[int, int], skip: int) -> Iterator[list[tuple[Rows, int]]]:
    """(rows, position) of every batch of one epoch after the first ``skip``; windows that only those need are not read."""
    order = np.random.default_rng(seed).permutation(len(source.units))
    loaded: dict[int, list[tuple[Rows, int]]] = {}
    waiting: list[tuple[int, int]] = []
    for window in range(0, len(order), _WINDOW_UNITS):
        rows = sum(source.units[at].rows for at in order[window : window + _WINDOW_UNITS])
        waiting.extend((window, int(at)) for at in np.random.default_rng((*seed, window)).permutation(rows))
        while len(waiting) >= size:
            chosen, waiting = waiting[:size], waiting[size:]
            if skip:
                skip -= 1
                continue
            loaded = {
                needed: loaded.get(needed) or _load(source, order[needed : needed + _WINDOW_UNITS])
                for needed in dict.fromkeys(needed for needed, _ in chosen)
            }
            yield [loaded[needed][at] for needed, at in chosen]


def _load(source: Source, units: NDArray[np.int64]) -> list[tuple[Rows, int]]:
    return [(rows, at) for rows in source.read([source.units[at] for at in sorted(units)]) for at in range(len(rows))]


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items, each made in another thread while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def assemble(found: Sequence[Picked]) -> Batch:
    """A batch of these examples."""
    return Batch(
        pixels=torch.stack([one.example.pixels for one in found]),
        texts=[one.text for one in found],
        negatives=[one.negative for one in found if one.negative is not None],
        captions=[one.example.captions for one in found],
    )
