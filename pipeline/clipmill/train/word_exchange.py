"""Captions with words exchanged: as like the true one as can be, and false.

After Yuksekgonul et al., "When and Why Vision-Language Models Behave like Bags-of-Words" (2023), who exchange words of one
kind in a caption. Without a parser the kinds are found by what surrounds a word: a word for a side or a relation has an
opposite, and a phrase that begins with an article names a thing, with its properties before it.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_OPPOSITES = (
    ("left", "right"),
    ("above", "below"),
    ("over", "under"),
    ("top", "bottom"),
    ("inside", "outside"),
    ("before", "after"),
    ("front", "back"),
    ("upper", "lower"),
)
_OPPOSITE = {one: other for pair in _OPPOSITES for one, other in (pair, pair[::-1])}
_ARTICLES = frozenset(("a", "an", "the", "one", "two", "three", "his", "her", "their", "its"))
_VOWELS = frozenset("aeiou")
_AND = frozenset(("and", "or", ",", "&"))
_ENDS = frozenset(
    (
        *(
            "in",
            "on",
            "at",
            "of",
            "to",
            "from",
            "by",
            "with",
            "without",
            "near",
            "beside",
            "behind",
            "under",
            "over",
            "above",
        ),
        *("below", "left", "right", "top", "bottom", "next", "into", "onto", "through", "across", "around", "against"),
        *(
            "between",
            "for",
            "as",
            "and",
            "or",
            "is",
            "are",
            "was",
            "were",
            "has",
            "have",
            "that",
            "which",
            "who",
            "while",
        ),
        *(
            "it",
            "them",
            "there",
            "holding",
            "wearing",
            "riding",
            "standing",
            "sitting",
            "walking",
            "running",
            "playing",
        ),
        *("looking", "lying"),
    )
)
"""Words that a phrase ends before."""
_WORD = re.compile(r"[\w'-]+|[^\w\s]")


def exchanged(caption: str) -> list[str]:
    """Captions that differ from this one in a single exchange, without repeats and without the caption itself: a word for
    its opposite, the properties of two things, or the two things."""
    words = _WORD.findall(caption)
    made = [*_with_opposites(words), *_with_phrases_exchanged(words)]
    found = [_written(one) for one in made]
    return [text for text in dict.fromkeys(found) if text != _written(words)]


def _with_opposites(words: Sequence[str]) -> Iterator[list[str]]:
    """All words that have an opposite exchanged at once: "left of … to its right" must not contradict itself."""
    if any(word.lower() in _OPPOSITE for word in words):
        yield [_OPPOSITE.get(word.lower(), word) for word in words]


@dataclass(frozen=True)
class _Phrase:
    """Words of a caption that name a thing, after its article: properties, and the noun last."""

    start: int
    stop: int


def _phrases(words: Sequence[str]) -> list[_Phrase]:
    found = []
    for at, word in enumerate(words):
        if word.lower() not in _ARTICLES:
            continue
        stop = at + 1
        while stop < len(words) and words[stop][0].isalnum() and words[stop].lower() not in _ENDS | _ARTICLES:
            stop += 1
        if stop > at + 2 and stop < len(words) and words[stop].lower() in _ARTICLES:
            stop -= 1  # what stands right before the next thing says what is done with it: "a man bites a dog"
        if stop > at + 1:
            found.append(_Phrase(at + 1, stop))
    return found


def _with_phrases_exchanged(words: Sequence[str]) -> Iterator[list[str]]:
    """Neighbouring things exchanged, and their properties alone; not where the two are joined by "and", which says the same
    either way round."""
    phrases = _phrases(words)
    for one, other in itertools.pairwise(phrases):
        between = words[one.stop : other.start - 1]
        first, second = list(words[one.start : one.stop]), list(words[other.start : other.stop])
        if len(first) > 1 and len(second) > 1 and first[:-1] != second[:-1]:
            yield _put(words, one, [*second[:-1], first[-1]], other, [*first[:-1], second[-1]])
        if first != second and any(word.lower() not in _AND for word in between):
            yield _put(words, one, second, other, first)


def _put(words: Sequence[str], one: _Phrase, first: list[str], other: _Phrase, second: list[str]) -> list[str]:
    return [*words[: one.start], *first, *words[one.stop : other.start], *second, *words[other.stop :]]


def _written(words: Sequence[str]) -> str:
    """The words as a sentence, with "a" and "an" as what follows them asks."""
    fitted = list(words)
    for at, word in enumerate(fitted[:-1]):
        if word.lower() in ("a", "an"):
            article = "an" if fitted[at + 1][0].lower() in _VOWELS else "a"
            fitted[at] = article.capitalize() if word[0].isupper() else article
    return re.sub(r" ([^\w\s])", r"\1", " ".join(fitted))
