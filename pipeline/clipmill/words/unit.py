"""What happens to one unit of rows: pictures decoded, questions asked, texts and rejects as tables. Pure; Ray is not needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from clipmill.core.errors import ClipmillError
from clipmill.core.schemas import Reason
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.words.asking import Asking
from clipmill.words.joining import groups
from clipmill.words.made import Made, WrittenUnit
from clipmill.words.protocol import Generator, Prepared, Said, Shown, Unanswerable
from clipmill.words.questions import Load, Questions, Row

Each = Callable[..., Iterator[Any]]
"""`map`, or the same in threads: a function, and what it is called with one after the other."""


@dataclass(frozen=True)
class Writer:
    """Writes about units of rows with one model, ``batch_size`` pictures at once, with ``exact`` of prompts of one length."""

    generator: Generator
    asking: Asking
    seed: int
    batch_size: int
    exact: bool
    max_image_pixels: int
    load: Load
    question_column: str | None = None
    examples: tuple[Shown, ...] = ()
    removed: Takedown = NOTHING

    def write(self, unit: int, raw: pa.Table, each: Each = map) -> WrittenUnit:
        """A raw unit (columns as in `clipmill.source.reading.unit_schema`, and ``source``). ``each`` prepares pictures."""
        made = Made(raw.drop_columns(["image"]).to_pylist(), self.asking.style)
        asked = self._prepared(raw, made, each)
        exact = self.exact or bool(self.asking.choices)
        for places in groups([row.prepared.length for row in asked], self.batch_size, exact=exact):
            self._answer([asked[at] for at in places], (self.seed * 1_000_003 + unit) * 65_537 + places[0], made)
        return made.tables()

    def _prepared(self, raw: pa.Table, made: Made, each: Each) -> list[Row]:
        questions = Questions(
            self.generator.prepare,
            self.asking,
            self.max_image_pixels,
            self.load,
            self.question_column,
            self.examples,
            self.removed,
        )
        jobs = ((at, raw.column("image")[at]) for at in range(raw.num_rows))
        done = each(lambda job: questions.of(job[0], job[1].as_py(), made.rows[job[0]]), jobs)
        asked: list[Row] = []
        for at, found in enumerate(done):
            if isinstance(found, Row):
                asked.append(found)
            elif found is not None:
                made.reject(at, *found)
        return asked

    def _answer(self, rows: Sequence[Row], seed: int, made: Made) -> None:
        """Texts of a batch. One that fails is asked in halves, down to the picture that it fails at."""
        try:
            answers = self._said([row.prepared for row in rows], seed)
        except ClipmillError:
            raise
        except Exception as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                self._answer(rows[:middle], seed, made)
                self._answer(rows[middle:], seed, made)
                return
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                raise
            if isinstance(error, Unanswerable):
                made.reject(rows[0].at, "text", Reason.NOT_ANSWERABLE, str(error))
                return
            made.reject(rows[0].at, "text", Reason.ENGINE_FAILED, f"{type(error).__name__}: {error}")
            return
        for row, candidates in zip(rows, answers, strict=True):
            for number, said in enumerate(candidates):
                made.take(row.at, row.prompt, number, said)

    def _said(self, batch: Sequence[Prepared], seed: int) -> list[list[Said]]:
        if not self.asking.choices:
            return self.generator.generate(batch, self.asking.decoding, seed)
        return [[self.asking.best(scored)] for scored in self.generator.score(batch, self.asking.choices)]
