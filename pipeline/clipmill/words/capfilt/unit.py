"""What happens to one unit of rows: pictures decoded, texts scored, and kept or dropped. Pure; Ray is not needed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.schemas import DROPPED_TEXTS, IMAGE_SHA256, Reason
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.source.decode import Rejected, decode_image
from clipmill.source.reading import KEPT_PREFIX
from clipmill.words.capfilt.pool import GENERATED, ORIGINAL, Text, pooled
from clipmill.words.capfilt.sums import CapfiltSums
from clipmill.words.scorers.protocol import Scorer

Load = Callable[[str, str], bytes]
"""(path in the image column, source file) to the image file's bytes; raises Rejected."""
BELOW = "below_threshold"


@dataclass(frozen=True)
class Seen:
    """The pictures of a unit by place: encoded bytes, null where there are none; what was made ready for the model of those
    that could be read; and why others could not."""

    encoded: tuple[bytes | None, ...]
    prepared: dict[int, Any]
    unreadable: dict[int, Reason]

    @property
    def removed(self) -> frozenset[int]:
        """The places of rows that were taken down, of which nothing stays but that they were there."""
        return frozenset(at for at, reason in self.unreadable.items() if reason is Reason.REMOVED)


@dataclass(frozen=True)
class Judged:
    """The finished tables of a unit, and its sums."""

    captioned: pa.Table
    dropped: pa.Table
    sums: CapfiltSums


@dataclass(frozen=True)
class Judge:
    """Scores texts with one model."""

    scorer: Scorer
    max_image_pixels: int
    load: Load
    removed: Takedown = NOTHING

    def see(self, raw: pa.Table, pool: Executor) -> Seen:
        """The pictures of a raw unit (columns as in `clipmill.source.reading.unit_schema`, and ``source``)."""
        found = list(pool.map(lambda row: self._seen(row), raw.select(_PICTURE).to_pylist()))
        return Seen(
            tuple(encoded for encoded, _ in found),
            {at: made for at, (_, made) in enumerate(found) if made is not None and not isinstance(made, Reason)},
            {at: made for at, (_, made) in enumerate(found) if isinstance(made, Reason)},
        )

    def _seen(self, row: dict[str, Any]) -> tuple[bytes | None, Any]:
        encoded: bytes | None = row["image"]
        if row["id"] in self.removed.ids:
            return None, Reason.REMOVED
        try:
            if encoded is None and row["image_path"] is not None:
                encoded = self.load(row["image_path"], row["source"])
            if encoded is None:
                return None, Reason.MISSING_IMAGE
            if self.removed.holds(row["id"], encoded):
                return None, Reason.REMOVED
            return encoded, self.scorer.prepare(decode_image(encoded, self.max_image_pixels))
        except Rejected as rejected:
            return encoded, rejected.reason

    def scores(self, seen: Seen, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Of each text with its own picture, float32 (n,); NaN where it has no words or no picture."""
        found = np.full(len(texts), np.nan, np.float32)
        places = {at: place for place, at in enumerate(seen.prepared)}
        scored = [number for number, text in enumerate(texts) if text.has_words and text.at in places]
        words = [str(texts[number].text) for number in scored]
        if scored:
            pairs = np.array([[places[texts[number].at], place] for place, number in enumerate(scored)], np.int64)
            found[scored] = self.scorer.score(list(seen.prepared.values()), words, pairs)
        return found

    def judge(
        self, raw: pa.Table, written: pa.Table, threshold: float, image_column: str, schema: pa.Schema, pool: Executor
    ) -> Judged:
        """A unit, with what was ``written`` about its rows: ``schema`` is that of what comes out, ``image_column`` what its
        pictures are called."""
        seen = self.see(raw, pool)
        texts = [text for text in pooled(raw, written) if text.at not in seen.removed]
        scores = self.scores(seen, texts)
        why = [_why(text, score, seen, threshold) for text, score in zip(texts, scores.tolist(), strict=True)]
        cut = self.scorer.cut_short([str(text.text) for text in texts if text.has_words])
        rows = raw.select(["row", "id"]).to_pylist()
        dropped = [
            {
                **rows[text.at],
                "caption_source": text.source,
                "number": text.number,
                "text": text.text,
                "score": score,
                "why": reason,
            }
            for text, score, reason in zip(texts, _numbers(scores), why, strict=True)
            if reason
        ]
        captioned = _captioned(raw, seen, texts, scores, why, image_column, schema)
        kept = Counter(text.source for text, reason in zip(texts, why, strict=True) if not reason)
        sums = CapfiltSums(
            rows=raw.num_rows,
            captioned=len({text.at for text, reason in zip(texts, why, strict=True) if not reason}),
            originals=sum(text.source == ORIGINAL for text in texts),
            generated=sum(text.source == GENERATED for text in texts),
            kept_originals=kept[ORIGINAL],
            kept_generated=kept[GENERATED],
            cut=int(cut.sum()),
            unreadable=len(seen.unreadable) - len(seen.removed),
            reasons=Counter(reason.value for reason in seen.unreadable.values()),
            dropped=Counter(one["why"] for one in dropped),
        )
        return Judged(captioned, pa.Table.from_pylist(dropped, schema=DROPPED_TEXTS), sums)


_PICTURE = ["id", "image", "image_path", "source"]


def _numbers(scores: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(score) else float(score) for score in scores]


def _why(text: Text, score: float, seen: Seen, threshold: float) -> str | None:
    """Why a text is dropped; None where it is kept."""
    if not text.has_words:
        return Reason.EMPTY_CAPTION.value
    if text.at in seen.unreadable:
        return seen.unreadable[text.at].value
    if not np.isfinite(score):
        return Reason.NON_FINITE_EMBEDDING.value
    return None if score >= threshold else BELOW


def _captioned(
    raw: pa.Table,
    seen: Seen,
    texts: Sequence[Text],
    scores: NDArray[np.float32],
    why: Sequence[str | None],
    image_column: str,
    schema: pa.Schema,
) -> pa.Table:
    """The rows again, each with the texts that are kept."""
    made: list[dict[str, Any]] = [{"caption": [], "caption_source": [], "score": []} for _ in range(raw.num_rows)]
    for text, score, reason in zip(texts, scores.tolist(), why, strict=True):
        if reason is None:
            for name, value in (("caption", text.text), ("caption_source", text.source), ("score", score)):
                made[text.at][name].append(value)
    columns = {
        "row": raw.column("row"),
        "id": raw.column("id"),
        image_column: pa.array(seen.encoded, pa.large_binary()),
    }
    digests = [None if one is None else hashlib.sha256(one).digest() for one in seen.encoded]
    columns[IMAGE_SHA256] = pa.array(digests, pa.binary(32))
    for name in ("caption", "caption_source", "score"):
        columns[name] = pa.array([one[name] for one in made], schema.field(name).type)
    if "re_caption" in schema.names:
        best = _best(raw.num_rows, texts, scores)
        columns |= {name: pa.array([one.get(name) for one in best], schema.field(name).type) for name in _RECAP_OF}
    here = pa.array([at not in seen.removed for at in range(raw.num_rows)])
    kept = {
        name: pc.if_else(here, column, pa.scalar(None, column.type)) if seen.removed else column
        for name in schema.names
        if name not in columns
        for column in [raw.column(KEPT_PREFIX + name)]
    }
    return pa.table({**columns, **kept}).select(schema.names).cast(schema)


_RECAP_OF = {"re_caption": GENERATED, "re_clip_score": GENERATED, "org_caption": ORIGINAL, "org_clip_score": ORIGINAL}


def _best(rows: int, texts: Sequence[Text], scores: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Of each row the text of either kind that scores most, of equals the first, and its score; of none that was scored the
    first, without a score."""
    found: list[dict[str, Any]] = [{} for _ in range(rows)]
    for text, score in zip(texts, _numbers(scores), strict=True):
        name = "re" if text.source == GENERATED else "org"
        before = found[text.at].get(f"{name}_clip_score")
        if f"{name}_caption" not in found[text.at] or (score is not None and (before is None or score > before)):
            found[text.at] |= {f"{name}_caption": text.text, f"{name}_clip_score": score}
    return found
