"""From a row of a unit to the question that an engine is asked, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clipmill.core.schemas import Reason
from clipmill.core.takedown import NOTHING, TAKEN_DOWN, Takedown
from clipmill.source.decode import Rejected, decode_image
from clipmill.source.reading import KEPT_PREFIX
from clipmill.words.asking import Asking
from clipmill.words.protocol import Prepared, Question, Shown, Unanswerable

Load = Callable[[str, str], bytes]
"""(path in the image column, source file) to the image file's bytes; raises Rejected."""
Reject = tuple[str, Reason, str]
"""Kind (image or text), reason, and in words what is wrong."""


@dataclass(frozen=True)
class Row:
    """One row of a unit that is asked about: its place in the unit, its prompt, and the question made ready."""

    at: int
    prompt: str
    prepared: Prepared


@dataclass(frozen=True)
class Questions:
    """What is asked about rows; ``prepare`` makes a question ready for an engine, as `Generator.prepare` does."""

    prepare: Callable[[Question], Prepared]
    asking: Asking
    max_image_pixels: int
    load: Load
    question_column: str | None = None
    examples: tuple[Shown, ...] = ()
    removed: Takedown = NOTHING

    def of(self, at: int, data: bytes | None, row: Mapping[str, Any]) -> Row | Reject | None:
        """The question about the row at a place of its unit, or its reject; None where its file has no pictures. ``data`` are
        the bytes of its picture, ``row`` has the other columns (`clipmill.source.reading.unit_schema`, and ``source``)."""
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
            return Row(at, str(prompt), self.prepare(Question(picture, str(prompt), self.examples)))
        except Unanswerable as error:
            return "text", Reason.NOT_ANSWERABLE, str(error)
        except Exception as error:
            return "text", Reason.ENGINE_FAILED, f"preparing it: {type(error).__name__}: {error}"

    def _encoded(self, data: bytes | None, row: Mapping[str, Any]) -> bytes:
        if data is not None:
            return data
        if row["image_path"] is not None:
            return self.load(row["image_path"], row["source"])
        raise Rejected(Reason.MISSING_IMAGE, "the image is null")


def shown(examples: Iterator[tuple[bytes, str, str]], max_image_pixels: int) -> tuple[Shown, ...]:
    """Examples with their pictures decoded. Raises Rejected for one that cannot be."""
    return tuple(Shown(decode_image(data, max_image_pixels), prompt, answer) for data, prompt, answer in examples)
