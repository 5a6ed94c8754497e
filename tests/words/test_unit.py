"""Every row of a unit ends as its texts or as one reject with its reason, whatever an engine does."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
import torch

from blocks import encoded
from clipmill.core.schemas import Reason
from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.source.columns import Columns
from clipmill.source.decode import Rejected
from clipmill.source.reading import unit_schema
from clipmill.words.asking import Asking
from clipmill.words.made import WrittenUnit
from clipmill.words.protocol import Decoding, Prepared, Question, Said, Unanswerable
from clipmill.words.unit import Writer

COLUMNS = Columns("image", "binary", None, False, None, (("question", pa.field("question", pa.string())),))


@dataclass
class Fake:
    """Says the prompt back, in capitals, with what each test wants to go wrong."""

    fails: frozenset[str] = frozenset()
    says: dict[str, Said] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    @property
    def identity(self) -> GeneratorIdentity:
        return GeneratorIdentity(name="fake", engine="fake", weights_sha256=None, processor_sha256=None)

    def prepare(self, question: Question) -> Prepared:
        if question.prompt == "unanswerable":
            raise Unanswerable("the prompt is too long")
        if question.prompt == "breaks":
            raise ValueError("no such\nthing")
        prompt = torch.tensor([list(question.prompt.encode())])
        return Prepared({"input_ids": prompt}, prompt.shape[1])

    def generate(self, batch: Sequence[Prepared], decoding: Decoding, seed: int) -> list[list[Said]]:
        prompts = [bytes(one.inputs["input_ids"][0].tolist()).decode() for one in batch]
        self.batches.append(prompts)
        self.seeds.append(seed)
        if self.fails & set(prompts):
            raise RuntimeError("the kernel failed")
        return [[self._said(prompt, number) for number in range(decoding.candidates)] for prompt in prompts]

    def _said(self, prompt: str, number: int) -> Said:
        return self.says.get(prompt, Said(f"{prompt.upper()} {number}", 3, -0.5, "stop"))

    def score(self, batch: Sequence[Prepared], choices: Sequence[str]) -> list[list[Said]]:
        assert len({one.length for one in batch}) == 1
        table = {"yes": (2, -0.5), "no way": (4, -0.3), "maybe": (1, -1.1)}
        return [[Said(choice, table[choice][0], table[choice][1], "choice") for choice in choices] for _ in batch]


def raw(questions: Sequence[str | None], images: Sequence[bytes | None] | None = None, **more: list[Any]) -> pa.Table:
    rows = len(questions)
    values: dict[str, Any] = {
        "row": list(range(rows)),
        "id": [f"p{row}" for row in range(rows)],
        "image": images or [encoded(row) for row in range(rows)],
        "image_path": [None] * rows,
        "has_image_column": [True] * rows,
        "captions": [None] * rows,
        "kept:question": list(questions),
        **more,
    }
    table = pa.Table.from_pydict(values, schema=unit_schema(COLUMNS))
    return table.append_column("source", pa.array(["in.parquet"] * rows))


def load(path: str, source: str) -> bytes:
    if path == "gone.jpg":
        raise Rejected(Reason.IMAGE_NOT_FOUND, "gone.jpg")
    return encoded(5)


def write(fake: Fake, table: pa.Table, asking: Asking | None = None, batch_size: int = 4, **more: Any) -> WrittenUnit:
    asking = asking or Asking(None, Decoding(10))
    writer = Writer(fake, asking, 7, batch_size, False, 10**6, load, "question", **more)
    with ThreadPoolExecutor(2) as pool:
        return writer.write(3, table, pool.map)


def rejects(unit: WrittenUnit) -> list[tuple[int, str, str]]:
    return [(one["row"], one["kind"], one["reason"]) for one in unit.rejected.to_pylist()]


def test_every_row_has_its_text_in_the_order_of_rows() -> None:
    unit = write(Fake(), raw(["long question", "b", "cc", "another long one", "e"]))
    assert unit.texts.column("text").to_pylist() == ["LONG QUESTION 0", "B 0", "CC 0", "ANOTHER LONG ONE 0", "E 0"]
    assert unit.texts.column("id").to_pylist() == [f"p{row}" for row in range(5)]
    assert rejects(unit) == []
    assert (unit.sums.rows, unit.sums.answered, unit.sums.texts, unit.sums.tokens) == (5, 5, 5, 15)


def test_prompts_of_like_length_pass_together() -> None:
    fake = Fake()
    write(fake, raw(["ccc", "a", "bb", "dddd", "e"]), batch_size=2)
    assert fake.batches == [["a", "e"], ["bb", "ccc"], ["dddd"]]
    assert len(set(fake.seeds)) == 3


def test_what_cannot_be_asked_is_a_reject_with_its_reason() -> None:
    images = [encoded(0), b"no picture", None, None, encoded(4), encoded(5), encoded(6), None]
    paths = [None, None, None, "gone.jpg", None, None, None, "there.jpg"]
    questions = ["ok", "ok", "ok", "ok", "unanswerable", "breaks", "  ", "ok"]
    unit = write(Fake(), raw(questions, images, image_path=paths))
    assert unit.texts.column("row").to_pylist() == [0, 7]
    assert rejects(unit) == [
        (1, "image", "not_an_image"),
        (2, "image", "missing_image"),
        (3, "image", "image_not_found"),
        (4, "text", "not_answerable"),
        (5, "text", "engine_failed"),
        (6, "text", "missing_question"),
    ]
    details = unit.rejected.column("detail").to_pylist()
    assert details[3] == "the prompt is too long"
    assert details[4] == "preparing it: ValueError: no such thing"
    assert (unit.sums.rejected_images, unit.sums.rejected_texts) == (3, 3)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_picture_that_an_engine_fails_at_does_not_cost_the_others_theirs(size: int) -> None:
    unit = write(Fake(fails=frozenset(["bad"])), raw(["aaa", "bad", "ccc", "ddd", "eee"]), batch_size=size)
    assert unit.texts.column("row").to_pylist() == [0, 2, 3, 4]
    assert rejects(unit) == [(1, "text", "engine_failed")]
    assert unit.rejected.column("detail")[0].as_py() == "RuntimeError: the kernel failed"


def test_an_empty_answer_and_one_without_probability_are_rejects_of_that_candidate() -> None:
    says = {"empty": Said("  ", 1, -0.1, "stop"), "nan": Said("x", 1, float("nan"), "stop")}
    unit = write(Fake(says=says), raw(["empty", "fine", "nan"]), Asking(None, Decoding(5, 0.5, 1, 2)))
    assert [(one["row"], one["caption_index"], one["reason"]) for one in unit.rejected.to_pylist()] == [
        (0, 0, "empty_text"),
        (0, 1, "empty_text"),
        (2, 0, "engine_failed"),
        (2, 1, "engine_failed"),
    ]
    assert unit.texts.column("candidate").to_pylist() == [0, 1]


def test_the_most_probable_choice_is_the_answer_by_sum_or_by_mean() -> None:
    """By sums: yes -1.0, no way -1.2, maybe -1.1; by means no way is best."""
    choices = ("maybe", "yes", "no way")
    by_sum = write(Fake(), raw(["a", "bb"]), Asking("is it?", Decoding(5), choices))
    assert by_sum.texts.column("text").to_pylist() == ["yes", "yes"]
    assert set(by_sum.texts.column("finish").to_pylist()) == {"choice"}
    by_mean = write(Fake(), raw(["a", "bb"]), Asking("is it?", Decoding(5), choices, by_mean=True))
    assert by_mean.texts.column("text").to_pylist() == ["no way", "no way"]


def test_alternative_text_is_made_of_what_was_said() -> None:
    says = {"go": Said("An image of a dog. It runs.", 9, -0.2, "stop")}
    unit = write(Fake(says=says), raw(["x"]), Asking("go", Decoding(5), style="alt"))
    assert unit.texts.column("text").to_pylist() == ["A dog."]
    assert unit.texts.column("prompt").to_pylist() == ["go"]


def test_rows_of_files_without_pictures_lack_nothing() -> None:
    unit = write(Fake(), raw(["a", "b"], has_image_column=[True, False]))
    assert unit.texts.column("row").to_pylist() == [0]
    assert rejects(unit) == []
    assert unit.sums.without_image_column == 1
