"""Words of any length have the tokens that open_clip gives them, in time that grows little faster than their length."""

import random
from itertools import pairwise

import open_clip
import pytest
from open_clip.tokenizer import SimpleTokenizer

from clipmill.encoders.byte_pairs import BytePairs, merged
from clipmill.encoders.tokenizer import _quick, cut_tokenizer

CHANCE = random.Random(5)
ALPHABETS = ["a", "ab", "abcdefghijklmnopqrstuvwxyz", "aeiou", "!?.-", "\u00e9\u00fc\u4e2d\u6587", "thecatsand"]
WORDS = [
    "".join(CHANCE.choice(alphabet) for _ in range(length))
    for alphabet in ALPHABETS
    for length in (1, 2, 3, 5, 17, 64, 199, 200, 201, 700)
]


@pytest.fixture(scope="module")
def plain() -> SimpleTokenizer:
    return SimpleTokenizer()


def test_every_word_has_the_parts_that_open_clip_gives_it(plain: SimpleTokenizer) -> None:
    for word in WORDS:
        letters = "".join(plain.byte_encoder[byte] for byte in word.encode())
        parts = merged([*letters[:-1], letters[-1] + "</w>"], plain.bpe_ranks)
        assert " ".join(parts) == plain.bpe(letters), word


def test_texts_have_the_same_tokens(plain: SimpleTokenizer) -> None:
    quick, light = _quick(SimpleTokenizer()), BytePairs(None, 77)
    texts = [*WORDS, *(" ".join(CHANCE.choices(WORDS, k=4)) for _ in range(40))]
    assert open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH == 77
    expected = plain(texts)
    assert quick(texts).equal(expected)
    for text, row in zip(texts, expected.tolist(), strict=True):
        found = light.tokens(text).tolist()
        assert [*found, *[0] * (77 - len(found))] == row, text


def test_merges_of_any_ranks_are_those_of_going_through_the_word_each_time() -> None:
    """Also where a merge makes a pair of lower rank than its own, which no learnt vocabulary has."""
    for _ in range(300):
        ranks: dict[tuple[str, str], int] = {}
        symbols = ["a", "b"]
        for _ in range(8):
            pair = (CHANCE.choice(symbols), CHANCE.choice(symbols))
            ranks.setdefault(pair, CHANCE.randrange(10**6))
            symbols.append("".join(pair))
        parts = CHANCE.choices("ab", k=30)
        expected = list(parts)
        while found := [pair for pair in pairwise(expected) if pair in ranks]:
            first = min(found, key=ranks.__getitem__)
            at, following = 0, []
            while at < len(expected):
                if tuple(expected[at : at + 2]) == first:
                    following.append("".join(first))
                    at += 2
                else:
                    following.append(expected[at])
                    at += 1
            expected = following
        assert merged(parts, ranks) == expected


def test_a_word_of_a_hundred_thousand_letters_is_no_work() -> None:
    """The number of looks at the ranks stays a small multiple of the letters."""

    class Counting(dict[tuple[str, str], int]):
        looks = 0

        def get(self, *arguments: object) -> int | None:  # type: ignore[override]
            Counting.looks += 1
            return super().get(*arguments)  # type: ignore[call-overload, no-any-return]

    ranks = Counting(SimpleTokenizer().bpe_ranks)
    letters = "".join(CHANCE.choices("abcdefghijklmnopqrstuvwxyz", k=100_000))
    assert "".join(merged([*letters], ranks)) == letters
    assert Counting.looks < 5 * len(letters)
    tokens = cut_tokenizer(1000, 77)([letters])
    assert tokens.shape == (1, 77)
