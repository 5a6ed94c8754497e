"""Alternative text is one sentence that fits a screen reader."""

import pytest

from clipmill.words.styles import ALT_LENGTH, alternative, prompt_of, styled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog on a beach", "a dog on a beach"),
        ("An image of a dog on a beach.", "A dog on a beach."),
        ("The picture shows two cats. They sleep.", "Two cats."),
        ("This is a photo of a red car", "A red car"),
        ("This image depicts a man", "A man"),
        ("A photograph of the sea! It is blue.", "The sea!"),
        ("image of", "image of"),
        ("An imaginary creature of the sea", "An imaginary creature of the sea"),
        ("St. Mark's Square", "St."),  # a full stop ends a sentence: nothing here knows abbreviations
    ],
)
def test_the_first_sentence_without_image_of(text: str, expected: str) -> None:
    assert alternative(text) == expected


@pytest.mark.parametrize("words", [30, 60])
def test_a_long_text_is_cut_at_a_word(words: int) -> None:
    text = " ".join(f"word{number}," for number in range(words))
    cut = alternative(text)
    assert len(cut) <= ALT_LENGTH
    assert text.startswith(cut)
    assert cut[-1].isdigit()
    assert text[len(cut)] in " ,"


def test_one_long_word_is_cut_in_it() -> None:
    assert alternative("x" * 300) == "x" * ALT_LENGTH


def test_white_space_is_plain_in_every_style() -> None:
    assert styled("  a\n dog \t runs ", "short") == "a dog runs"
    assert styled("An image of\n a dog", "alt") == "A dog"


def test_a_model_that_is_not_instructed_is_asked_nothing() -> None:
    assert prompt_of("alt", instructed=False) == ""
    assert "alternative text" in prompt_of("alt", instructed=True)
