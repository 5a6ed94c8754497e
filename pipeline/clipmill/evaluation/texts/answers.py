"""Answers to questions about pictures beside those of people, as VQA (Antol et al. 2015) and POPE (Li et al. 2023) do."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_DIGITS = {**{word: str(number) for number, word in enumerate(_NUMBERS)}, "none": "0"}
_COMMA_OF_NUMBER = re.compile(r"(?<=\d),(?=\d)")
_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_APART = re.compile(r"[;/\[\]\"{}()=+\\_\-><@`,?!:]")
_ENOUGH = 3
"""People who have to agree for an answer to be right without doubt."""

YesNo = Literal["yes", "no", "neither"]


def normalised(answer: str) -> str:
    """An answer as answers are compared: lower case, numbers in digits, without articles and punctuation."""
    text = _APART.sub(" ", _COMMA_OF_NUMBER.sub("", answer.lower().replace("’", "'")))
    words = _POINT.sub("", text).split()
    return " ".join(_DIGITS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, given: Sequence[str]) -> float:
    """The mean, over all ways to leave out one of the people who were asked, of min(1, those of the others who agree / 3).
    ``given`` are the answers of at least two, normalised like ``answer``."""
    agree = sum(one == answer for one in given)
    others = [agree - (one == answer) for one in given]
    return sum(min(1.0, count / _ENOUGH) for count in others) / len(given)


def right_answer(given: Sequence[str]) -> str:
    """The answer that most people gave, of equals the first."""
    return Counter(given).most_common(1)[0][0]


def yes_or_no(answer: str) -> YesNo:
    """What an answer begins with."""
    first = normalised(answer).partition(" ")[0]
    return "yes" if first == "yes" else "no" if first == "no" else "neither"
