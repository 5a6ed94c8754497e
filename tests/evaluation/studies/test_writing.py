"""Texts are varied as said, alike each time, and what that changes is measured on the same queries."""

import numpy as np
import pytest

from captioned import pairs
from clipmill.evaluation.studies.perturb import AS_WRITTEN, VARIATIONS, typos
from clipmill.evaluation.studies.variations import Classes
from clipmill.evaluation.studies.writing import measure_writing
from clipmill.evaluation.vectors import Vectors

TEXT = "a photograph of two dogs running over wet grass"
IMAGES = pairs(30, 1)[0]


def changed(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("per_letter", "swaps"), [(0.01, 1), (1 / 20, 2), (1 / 10, 4), (1 / 5, 8)])
def test_a_typo_exchanges_two_neighbouring_letters(per_letter: float, swaps: int) -> None:
    written = typos(TEXT, per_letter, 0)
    assert changed(TEXT, written) == 2 * swaps
    assert sorted(written) == sorted(TEXT)
    assert [len(word) for word in written.split(" ")] == [len(word) for word in TEXT.split(" ")]


def test_typos_follow_from_text_and_seed_alone() -> None:
    assert typos(TEXT, 0.1, 3) == typos(TEXT, 0.1, 3)
    assert len({typos(TEXT, 0.1, seed) for seed in range(10)}) > 5


@pytest.mark.parametrize("text", ["", "a", "aaa", "12 34", "a b c", "\ud800x"])
def test_a_text_without_two_different_neighbouring_letters_stays(text: str) -> None:
    assert sorted(typos(text, 0.5, 0)) == sorted(text)
    if text != "\ud800x":
        assert typos(text, 0.5, 0) == text


def test_an_encoder_that_reads_capitals_wrongly_is_found_out() -> None:
    def encode(texts: list[str]) -> np.ndarray:
        """Text "pic n" is image n, in capitals the next one; with letters exchanged still n."""
        numbers = [(int(text.split(" ")[1]) + text.split(" ")[0].isupper()) % 30 for text in texts]
        return IMAGES[numbers].astype(np.float32)

    images = Vectors(np.arange(30), IMAGES)
    classes = Classes(
        np.arange(30), np.arange(30), tuple(f"pic {n}" for n in range(30)), ("{}",), np.zeros((30, 16), np.float32)
    )
    found = measure_writing(encode, images, np.arange(10), [f"pic {n}" for n in range(10)], classes, 200, 0)
    assert {figure.key: figure.value for figure in found.clean} == {"t2i.recall@1": 1, "zero-shot.acc1": 1}
    assert [one.name for one in found.variations] == [name for name in VARIATIONS if name != AS_WRITTEN]
    for one in found.variations:
        lost = 1 if one.name == "upper case" else 0
        assert {figure.key: figure.value for figure in one.changes} == {
            "t2i.recall@1_change": -lost,
            "zero-shot.acc1_change": -lost,
        }
    assert found.variations[1].example == "PIC 0"
