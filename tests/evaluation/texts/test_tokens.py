"""Texts are cut into words as Stanford's tokenizer does, by its output for sentences of this kind."""

import pytest

from clipmill.evaluation.texts.tokens import tokens

EXPECTED = {
    "A man's dog doesn't bark, and it's NOT his.": "a man 's dog does n't bark and it 's not his",
    "Two men can't go; they cannot go!": "two men ca n't go they can not go",
    "a t-shirt -- with 3.5 stripes, 1,000 dots & a 4-wheeler": "a t-shirt with 3.5 stripes 1,000 dots & a 4-wheeler",
    "Mr. Smith (left) at 10:30 p.m.": "mr. smith -lrb- left -rrb- at 10:30 p.m.",
    'a sign says "Stop" ...': "a sign says stop",
    "the water 's edge": "the water 's edge",
    "a statefarm.com hat in the U.S. flag's colours": "a statefarm.com hat in the u.s. flag 's colours",
    "You're here, we've seen, I'll go, he'd be, I'm": "you 're here we 've seen i 'll go he 'd be i 'm",
    "": "",
    " . , ": "",
    "ein Mädchen läuft über die Straße": "ein mädchen läuft über die straße",
    "the 2nd of the 1990s costs $5": "the 2nd of the 1990s costs $ 5",
}


@pytest.mark.parametrize("text", EXPECTED)
def test_a_text_is_these_words(text: str) -> None:
    assert " ".join(tokens(text)) == EXPECTED[text]
