"""Texts and rejects of one unit, as an engine's answers come in, and the tables that they end as."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from clipmill.core.schemas import REJECTED, TEXTS, Reason
from clipmill.words.protocol import Said
from clipmill.words.styles import Style, styled
from clipmill.words.sums import TextSums

_DETAIL = 300


@dataclass(frozen=True)
class WrittenUnit:
    """The finished tables of a unit, and its sums."""

    texts: pa.Table
    rejected: pa.Table
    sums: TextSums


@dataclass
class Made:
    """Texts and rejects of a unit so far, as records. ``rows`` are the unit's, with ``row``, ``id``, ``source`` and
    ``has_image_column``; captions are made to fit their ``style``."""

    rows: Sequence[dict[str, Any]]
    style: Style | None = None
    texts: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0

    def reject(self, at: int, kind: str, reason: Reason, detail: str, candidate: int | None = None) -> None:
        """The row at a place of the unit gets no text, or not this one."""
        known = {name: self.rows[at][name] for name in ("row", "id", "source")}
        told = " ".join(detail.split())[:_DETAIL]
        self.rejects.append({**known, "kind": kind, "caption_index": candidate, "reason": reason.value, "detail": told})

    def take(self, at: int, prompt: str, number: int, said: Said) -> None:
        """What was said about the row at a place of the unit, as its candidate of this number: a text, or a reject."""
        self.prompt_tokens += said.prompt_tokens
        if said.logprob is not None and not math.isfinite(said.logprob):
            self.reject(at, "text", Reason.ENGINE_FAILED, "its probabilities are no numbers", number)
            return
        if self.style is not None:
            said = replace(said, text=styled(said.text, self.style))
        if not said.text.strip():
            self.reject(at, "text", Reason.EMPTY_TEXT, "the model wrote nothing", number)
            return
        known = {name: self.rows[at][name] for name in ("row", "id")}
        values = {"text": said.text, "tokens": said.tokens, "logprob": said.logprob, "finish": said.finish}
        self.texts.append({**known, "candidate": number, "prompt": prompt, **values})

    def tables(self) -> WrittenUnit:
        """The unit, in order of rows."""
        texts = sorted(self.texts, key=lambda one: (one["row"], one["candidate"]))
        rejects = sorted(self.rejects, key=lambda one: (one["row"], one["caption_index"] or 0))
        kinds = Counter(one["kind"] for one in rejects)
        sums = TextSums(
            rows=len(self.rows),
            answered=len({one["row"] for one in texts}),
            texts=len(texts),
            tokens=sum(one["tokens"] for one in texts),
            prompt_tokens=self.prompt_tokens,
            cut=sum(one["finish"] == "length" for one in texts),
            rejected_images=kinds["image"],
            rejected_texts=kinds["text"],
            without_image_column=sum(not row["has_image_column"] for row in self.rows),
            reasons=Counter(one["reason"] for one in rejects),
        )
        return WrittenUnit(
            pa.Table.from_pylist(texts, schema=TEXTS), pa.Table.from_pylist(rejects, schema=REJECTED), sums
        )
