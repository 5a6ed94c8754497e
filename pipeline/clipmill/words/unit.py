"""What happens to one unit of rows: pictures decoded, questions asked, texts and rejects as tables. Pure; Ray is not needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import torch

from clipmill.core.errors import ClipmillError
from clipmill.core.schemas import REJECTED, TEXTS, Reason
from clipmill.core.takedown import NOTHING, TAKEN_DOWN, Takedown
from clipmill.source.decode import Rejected, decode_image
from clipmill.source.reading import KEPT_PREFIX
from clipmill.words.asking import Asking
from clipmill.words.joining import groups
from clipmill.words.protocol import Generator, Prepared, Question, Said, Shown, Unanswerable
from clipmill.words.styles import styled
from clipmill.words.sums import TextSums

Load = Callable[[str, str], bytes]
"""(path in the image column, source file) to the image file's bytes; raises Rejected."""
_DETAIL = 300


@dataclass(frozen=True)
class Row:
    """One row of a unit that is asked about: its place in the unit, its prompt, and the question made ready."""

    at: int
    prompt: str
    prepared: Prepared


@dataclass
class _Made:
    """Texts and rejects of a unit so far, as records."""

    rows: list[dict[str, Any]]
    texts: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0

    def reject(self, at: int, kind: str, reason: Reason, detail: str, candidate: int | None = None) -> None:
        """The row at a place of the unit gets no text, or not this one."""
        known = {name: self.rows[at][name] for name in ("row", "id", "source")}
        told = " ".join(detail.split())[:_DETAIL]
        self.rejects.append({**known, "kind": kind, "caption_index": candidate, "reason": reason.value, "detail": told})

    def say(self, at: int, prompt: str, candidate: int, said: Said) -> None:
        """A text about the row at a place of the unit."""
        known = {name: self.rows[at][name] for name in ("row", "id")}
        values = {"text": said.text, "tokens": said.tokens, "logprob": said.logprob, "finish": said.finish}
        self.texts.append({**known, "candidate": candidate, "prompt": prompt, **values})


@dataclass(frozen=True)
class WrittenUnit:
    """The finished tables of a unit, and its sums."""

    texts: pa.Table
    rejected: pa.Table
    sums: TextSums


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

    def write(self, unit: int, raw: pa.Table, pool: Executor) -> WrittenUnit:
        """A raw unit (columns as in `clipmill.source.reading.unit_schema`, and ``source``). ``pool`` prepares pictures."""
        made = _Made(raw.drop_columns(["image"]).to_pylist())
        asked = self._prepared(raw, made, pool)
        exact = self.exact or bool(self.asking.choices)
        for places in groups([row.prepared.length for row in asked], self.batch_size, exact=exact):
            self._answer([asked[at] for at in places], (self.seed * 1_000_003 + unit) * 65_537 + places[0], made)
        return self._tables(made)

    def _prepared(self, raw: pa.Table, made: _Made, pool: Executor) -> list[Row]:
        jobs = ((at, raw.column("image")[at]) for at in range(raw.num_rows))
        done = pool.map(lambda job: self._row(job[0], job[1], made.rows[job[0]]), jobs)
        asked: list[Row] = []
        for at, found in enumerate(done):
            if isinstance(found, Row):
                asked.append(found)
            elif found is not None:
                made.reject(at, *found)
        return asked

    def _row(self, at: int, data: pa.Scalar, row: dict[str, Any]) -> Row | tuple[str, Reason, str] | None:
        """The question about a row, or the kind, reason and detail of its reject; None where its file has no pictures."""
        if not row["has_image_column"]:
            return None
        if row["id"] in self.removed.ids:
            return "text", Reason.REMOVED, TAKEN_DOWN
        try:
            encoded = self._encoded(data, row)
            if self.removed.holds(row["id"], encoded):
                return "text", Reason.REMOVED, TAKEN_DOWN
            picture = decode_image(encoded, self.max_image_pixels)
        except Rejected as rejected:
            return "image", rejected.reason, rejected.detail
        prompt = self.asking.prompt
        if prompt is None:
            prompt = row.get(f"{KEPT_PREFIX}{self.question_column}")
            if prompt is None or not str(prompt).strip():
                return "text", Reason.MISSING_QUESTION, f"column {self.question_column} is empty"
        try:
            return Row(at, str(prompt), self.generator.prepare(Question(picture, str(prompt), self.examples)))
        except Unanswerable as error:
            return "text", Reason.NOT_ANSWERABLE, str(error)
        except Exception as error:
            return "text", Reason.ENGINE_FAILED, f"preparing it: {type(error).__name__}: {error}"

    def _encoded(self, data: pa.Scalar, row: dict[str, Any]) -> bytes:
        if data.is_valid:
            found: bytes = data.as_py()
            return found
        if row["image_path"] is not None:
            return self.load(row["image_path"], row["source"])
        raise Rejected(Reason.MISSING_IMAGE, "the image is null")

    def _answer(self, rows: Sequence[Row], seed: int, made: _Made) -> None:
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
                self._take(row, number, said, made)

    def _said(self, batch: Sequence[Prepared], seed: int) -> list[list[Said]]:
        if not self.asking.choices:
            return self.generator.generate(batch, self.asking.decoding, seed)
        return [[self._best(scored)] for scored in self.generator.score(batch, self.asking.choices)]

    def _best(self, scored: Sequence[Said]) -> Said:
        """The most probable choice; of several the first."""
        weight = (lambda one: 1) if self.asking.by_mean else (lambda one: one.tokens)
        return max(scored, key=lambda one: (one.logprob if one.logprob is not None else -math.inf) * weight(one))

    def _take(self, row: Row, number: int, said: Said, made: _Made) -> None:
        made.prompt_tokens += said.prompt_tokens
        if said.logprob is not None and not math.isfinite(said.logprob):
            made.reject(row.at, "text", Reason.ENGINE_FAILED, "its probabilities are no numbers", number)
            return
        if self.asking.style is not None:
            said = replace(said, text=styled(said.text, self.asking.style))
        if not said.text.strip():
            made.reject(row.at, "text", Reason.EMPTY_TEXT, "the model wrote nothing", number)
            return
        made.say(row.at, row.prompt, number, said)

    def _tables(self, made: _Made) -> WrittenUnit:
        texts = sorted(made.texts, key=lambda one: (one["row"], one["candidate"]))
        rejects = sorted(made.rejects, key=lambda one: (one["row"], one["caption_index"] or 0))
        kinds = Counter(one["kind"] for one in rejects)
        sums = TextSums(
            rows=len(made.rows),
            answered=len({one["row"] for one in texts}),
            texts=len(texts),
            tokens=sum(one["tokens"] for one in texts),
            prompt_tokens=made.prompt_tokens,
            cut=sum(one["finish"] == "length" for one in texts),
            rejected_images=kinds["image"],
            rejected_texts=kinds["text"],
            without_image_column=sum(not row["has_image_column"] for row in made.rows),
            reasons=Counter(one["reason"] for one in rejects),
        )
        return WrittenUnit(
            pa.Table.from_pylist(texts, schema=TEXTS), pa.Table.from_pylist(rejects, schema=REJECTED), sums
        )


def shown(examples: Iterator[tuple[bytes, str, str]], max_image_pixels: int) -> tuple[Shown, ...]:
    """Examples with their pictures decoded. Raises Rejected for one that cannot be."""
    return tuple(Shown(decode_image(data, max_image_pixels), prompt, answer) for data, prompt, answer in examples)
