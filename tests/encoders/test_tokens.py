"""Token ids travel without their padding and come back as the tokenizer made them."""

from collections.abc import Sequence

import numpy as np
import open_clip
import pytest
import torch

from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import load_model
from clipmill.encoders.shipping import ship_tokenizer, unship_tokenizer
from clipmill.encoders.tokens import TokenForm, Tokenizer, are_cut, cut_short, tokenise

TEXTS = ["", "a cat", "two dogs on a bed, in the sun!", "Ünïcödé ☂ " * 4, "word " * 200, "a cat", "!!!"]


def letters(padding: int, length: int) -> Tokenizer:
    """One id a letter, nothing at the end, filled up with ``padding``."""

    def tokenizer(texts: Sequence[str]) -> torch.Tensor:
        rows = [[ord(letter) for letter in text[:length]] for text in texts]
        return torch.tensor([row + [padding] * (length - len(row)) for row in rows])

    return tokenizer


def restored(tokenizer: Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    return TokenForm.of(tokenizer).batch(tokenise(tokenizer, texts))


@pytest.mark.parametrize("name", ["ViT-B-32", "coca_ViT-B-32"])
def test_what_the_tokenizer_made_is_made_again(name: str) -> None:
    tokenizer = open_clip.get_tokenizer(name)
    assert torch.equal(restored(tokenizer, TEXTS), tokenizer(TEXTS))


@pytest.mark.parametrize("padding", [0, 1, 97, 98])
@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_any_padding_comes_back_even_one_that_texts_use(padding: int, length: int) -> None:
    texts = ["", "a", "b", "ab", "ba", "aab", "bbaa", "abcabcabc", "aaaaaaaaa"]
    tokenizer = letters(padding, length)
    assert torch.equal(restored(tokenizer, texts), tokenizer(texts))


def test_equal_texts_are_tokenised_once_and_given_in_order() -> None:
    asked: list[str] = []
    plain = letters(0, 9)

    def spying(texts: Sequence[str]) -> torch.Tensor:
        asked.extend(texts)
        return plain(texts)

    ids = tokenise(spying, ["ab", "c", "ab"])
    assert [one.tolist() for one in ids] == [[97, 98], [99], [97, 98]]
    assert asked.count("ab") == 1


def test_vectors_are_those_of_texts_whatever_the_batches() -> None:
    model = load_model(ModelSettings(batch_size=2), device="cpu")
    arrived = unship_tokenizer(ship_tokenizer(model))
    tokens = [ids for ids in tokenise(arrived, TEXTS) for _ in range(3)]
    whole = model.network.encode_text(model.tokenizer(TEXTS), normalize=True).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(model.encode_tokens(tokens), whole.repeat(3, axis=0), atol=1e-5)
    assert model.encode_tokens([]).shape == (0, model.identity.dimension)


@pytest.mark.parametrize("model", [None, "ViT-B-32"])
def test_a_text_is_cut_where_its_end_makes_no_difference(model: str | None) -> None:
    tokenizer = load_model(ModelSettings(), device="cpu").tokenizer if model is None else open_clip.get_tokenizer(model)
    length = TokenForm.of(tokenizer).length
    fits, longer = " ".join(["a"] * (length - 2)), " ".join(["a"] * (length - 1))
    assert len(tokenise(tokenizer, [fits])[0]) == length
    texts = ["", "a cat", fits, longer, f"{fits}  ", f"{fits} !", "word " * 200]
    assert cut_short(tokenizer, texts).tolist() == [False, False, False, True, False, True, True]


def test_of_letters_that_are_cut_each_counts() -> None:
    found = cut_short(letters(0, 5), ["abcd", "abcde", "abcdef", "abcdeff"])
    assert found.tolist() == [False, False, True, True]


@pytest.mark.parametrize("words", [1, 74, 75, 76, 200])
def test_a_text_is_cut_where_it_has_more_words_than_the_model_reads(words: int) -> None:
    """CLIP reads 77 tokens: a beginning, an end, and 75 between; each of these words is one."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    text = " ".join(["dog"] * words)
    assert are_cut(tokenizer, ["cat", text], tokenise(tokenizer, ["cat", text])).tolist() == [False, words > 75]
    assert cut_short(tokenizer, ["cat", text]).tolist() == [False, words > 75]
