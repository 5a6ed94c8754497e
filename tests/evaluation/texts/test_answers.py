"""Answers are compared as VQA and POPE compare them."""

import pytest

from clipmill.evaluation.texts.answers import normalised, right_answer, vqa_accuracy, yes_or_no


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", "yes"),
        ("The red  dog!", "red dog"),
        ("two", "2"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("a T-shirt", "t shirt"),
        ("none", "0"),
        ("An", ""),
        ("it's", "it's"),
    ],
)
def test_answers_are_compared_without_case_articles_and_punctuation(answer: str, expected: str) -> None:
    assert normalised(answer) == expected


@pytest.mark.parametrize(("agree", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_of_ten_people_three_others_make_an_answer_right(agree: int, expected: float) -> None:
    """With a of ten who agree, leaving one out of these leaves a − 1: (a · min(1, (a−1)/3) + (10−a) · min(1, a/3)) / 10."""
    given = ["red"] * agree + ["blue"] * (10 - agree)
    assert vqa_accuracy("red", given) == pytest.approx(expected)


def test_the_right_answer_is_that_of_most_people() -> None:
    assert right_answer(["a", "b", "b", "c"]) == "b"
    assert right_answer(["a", "b"]) == "a"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes, it is.", "yes"),
        ("no", "no"),
        ("No.", "no"),
        ("nothing", "neither"),
        ("I think yes", "neither"),
        ("", "neither"),
    ],
)
def test_yes_and_no_are_what_an_answer_begins_with(answer: str, expected: str) -> None:
    assert yes_or_no(answer) == expected
