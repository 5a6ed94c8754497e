"""Of each unit every text is kept or dropped once, with its score and why; rows and columns stay."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from blocks import encoded
from clipmill.core.schemas import Reason, captioned_schema
from clipmill.source.diagnosis import Rejected
from clipmill.words.capfilt.unit import Judge, Judged


class ByLength:
    """Scores a text by its words in tenths, a picture that is wide by one tenth more. Pictures are known by their width."""

    def prepare(self, picture: torch.Tensor) -> int:
        return picture.shape[-1]

    def score(self, pictures: Sequence[int], texts: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        found = [
            np.nan if "nan" in texts[text] else len(texts[text].split()) / 10 + (pictures[picture] > 60) / 10
            for picture, text in pairs
        ]
        return np.array(found, np.float32)

    def cut_short(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([len(text.split()) > 5 for text in texts], np.bool_)


NARROW, WIDE = encoded(1, (48, 36)), encoded(2, (90, 36))
ROWS: list[dict[str, Any]] = [
    {"image": NARROW, "captions": ["one two three", "one", None, " "]},
    {"image": WIDE, "captions": ["one two"]},
    {"image": b"no picture", "captions": ["one two three four"]},
    {"image": None, "image_path": "there.png", "captions": None},
    {"image": None, "image_path": "gone.png", "captions": ["one two three"]},
    {"image": NARROW, "captions": ["nan nan nan"]},
]
WRITTEN = [
    {"row": 10, "candidate": 0, "text": "a b c d e f"},
    {"row": 11, "candidate": 0, "text": "a"},
    {"row": 11, "candidate": 2, "text": "a b c"},
    {"row": 13, "candidate": 0, "text": "a b c"},
]


def load(path: str, source: str) -> bytes:
    if path == "gone.png":
        raise Rejected(Reason.IMAGE_NOT_FOUND, "it is gone")
    assert source == "a file"
    return NARROW


def judged(*, recap: bool = False) -> Judged:
    known = {"image_path": None, "source": "a file", "kept:label": "x", "kept:tags": ["t"]}
    rows = [{"row": 10 + at, "id": f"r{at}", **known, **row} for at, row in enumerate(ROWS)]
    raw = pa.Table.from_pylist(
        rows,
        pa.schema(
            {
                "row": pa.int64(),
                "id": pa.string(),
                "image": pa.large_binary(),
                "image_path": pa.string(),
                "captions": pa.list_(pa.string()),
                "source": pa.string(),
                "kept:label": pa.string(),
                "kept:tags": pa.list_(pa.string()),
            }
        ),
    )
    schema = captioned_schema(
        "picture", [pa.field("label", pa.string()), pa.field("tags", pa.list_(pa.string()))], recap=recap
    )
    judge = Judge(ByLength(), 10**8, load)
    with ThreadPoolExecutor(1) as pool:
        return judge.judge(raw, pa.Table.from_pylist(WRITTEN), 0.3, "picture", schema, pool)


def test_rows_stay_with_the_texts_that_score_enough() -> None:
    found = judged().captioned
    assert found.column("row").to_pylist() == [10, 11, 12, 13, 14, 15]
    assert found.column("picture").to_pylist() == [NARROW, WIDE, b"no picture", NARROW, None, NARROW]
    assert found.column("tags").to_pylist() == [["t"]] * 6
    captions = [["one two three", "a b c d e f"], ["one two", "a b c"], [], ["a b c"], [], []]
    assert found.column("caption").to_pylist() == captions
    both = ["original", "generated"]
    assert found.column("caption_source").to_pylist() == [both, both, [], ["generated"], [], []]
    scores = [[0.3, 0.6], [0.3, 0.4], [], [0.3], [], []]
    for one, expected in zip(found.column("score").to_pylist(), scores, strict=True):
        assert one == pytest.approx(expected)


def test_every_other_text_is_dropped_once_with_why() -> None:
    found = [
        (one["row"], one["caption_source"], one["number"], one["text"], one["why"])
        for one in judged().dropped.to_pylist()
    ]
    assert found == [
        (10, "original", 1, "one", "below_threshold"),
        (10, "original", 2, None, "empty_caption"),
        (10, "original", 3, " ", "empty_caption"),
        (11, "generated", 0, "a", "below_threshold"),
        (12, "original", 0, "one two three four", "not_an_image"),
        (14, "original", 0, "one two three", "image_not_found"),
        (15, "original", 0, "nan nan nan", "non_finite_embedding"),
    ]
    scores = judged().dropped.column("score").to_pylist()
    assert [score is None for score in scores] == [False, True, True, False, True, True, True]
    assert (scores[0], scores[3]) == (pytest.approx(0.1), pytest.approx(0.2))


def test_what_is_counted_is_what_there_is() -> None:
    sums = judged().sums
    assert (sums.rows, sums.captioned, sums.unreadable, sums.cut) == (6, 3, 2, 1)
    assert (sums.originals, sums.generated, sums.kept_originals, sums.kept_generated) == (8, 4, 2, 3)
    assert sums.dropped == {
        "below_threshold": 2,
        "empty_caption": 2,
        "not_an_image": 1,
        "image_not_found": 1,
        "non_finite_embedding": 1,
    }


def test_recap_columns_hold_the_best_of_either_kind_kept_or_not() -> None:
    found = judged(recap=True).captioned
    best = ["one two three", "one two", "one two three four", None, "one two three", "nan nan nan"]
    assert found.column("org_caption").to_pylist() == best
    assert found.column("re_caption").to_pylist() == ["a b c d e f", "a b c", None, "a b c", None, None]
    scores = found.column("org_clip_score").to_pylist()
    assert scores == [pytest.approx(0.3), pytest.approx(0.3), None, None, None, None]
    assert found.column("re_clip_score").to_pylist()[1] == pytest.approx(0.4)
