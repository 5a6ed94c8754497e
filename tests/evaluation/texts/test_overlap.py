"""Overlap with references is what its formulas say, by hand and beside COCO's own evaluation."""

import math

import numpy as np
import pytest

from clipmill.evaluation.texts.cider import Rarity
from clipmill.evaluation.texts.overlap import Words, bleu, bleu_counts, rouge_l
from clipmill.evaluation.texts.tokens import tokens
from clipmill.scenes.captions import captions
from clipmill.scenes.scene import scene_of_row


def words(text: str) -> Words:
    return tuple(text.split())


def test_bleu_counts_runs_of_words_that_a_reference_has() -> None:
    found = bleu(bleu_counts(words("the cat sat on the mat"), [words("the cat is on the mat")]))
    np.testing.assert_allclose(found, [5 / 6, math.sqrt(5 / 6 * 3 / 5), (5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3), 0])


def test_bleu_counts_a_word_as_often_as_one_reference_has_it() -> None:
    counts = bleu_counts(words("the the the the"), [words("the cat the dog"), words("the")])
    assert counts[2:4].tolist() == [4, 2]


def test_bleu_is_less_for_what_is_shorter_than_the_nearest_reference() -> None:
    assert bleu(bleu_counts(words("the cat"), [words("the cat sat")]))[0] == pytest.approx(math.exp(1 - 3 / 2))
    equally_near = bleu_counts(words("a b c"), [words("a b c d"), words("a b")])
    assert equally_near[1] == 2
    assert bleu(equally_near)[0] == 1
    assert bleu(np.zeros(10)).tolist() == [0, 0, 0, 0]


def test_bleu_of_a_corpus_adds_up_before_it_divides() -> None:
    one, other = bleu_counts(words("a b"), [words("a b")]), bleu_counts(words("c"), [words("d e f")])
    assert bleu(one + other)[0] == pytest.approx(2 / 3 * math.exp(1 - 5 / 3))


def test_rouge_l_is_of_the_longest_common_run_with_gaps() -> None:
    assert rouge_l(words("the cat sat on the mat"), [words("the cat is on the mat")]) == pytest.approx(5 / 6)
    precision, recall = 2 / 2, 2 / 4
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(words("a c"), [words("a b c d")]) == pytest.approx(expected)
    assert rouge_l(words("a"), [words("b")]) == 0
    assert rouge_l((), [words("b")]) == 0


def test_cider_is_the_cosine_of_rare_runs_of_words() -> None:
    rarity = Rarity.of([[words("a b")], [words("c d")]])
    assert rarity.score(words("a b"), [words("a b")]) == pytest.approx(10 * 2 / 4)  # no runs of three and four words
    half = 10 * (1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert rarity.score(words("a"), [words("a b")]) == pytest.approx(half)
    assert rarity.score(words("c d"), [words("a b")]) == 0
    four = [words("a b c d e")]
    assert Rarity.of([four, [words("x")]]).score(four[0], [four[0], words("x y z")]) == pytest.approx(10 / 2)


def test_what_all_pictures_have_says_nothing() -> None:
    everywhere = [words("a b c d e")]
    assert Rarity.of([everywhere, everywhere]).score(everywhere[0], everywhere) == 0


def test_a_repeated_word_counts_no_more_than_in_the_reference() -> None:
    rarity = Rarity.of([[words("a b")], [words("c d")]])
    clipped = 10 / 4 * (1 / (3 * math.sqrt(2))) * math.exp(-1 / 72)
    assert rarity.score(words("a a a"), [words("a b")]) == pytest.approx(clipped)


@pytest.mark.parametrize("shuffled", [False, True])
def test_values_are_those_of_cocos_evaluation(shuffled: bool) -> None:
    """Where that is installed; its tokenizer wants Java, so both are given our words."""
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    blue = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge()
    said = [[tokens(text) for text in captions(scene_of_row("held-out", 0, row)[0])] for row in range(80)]
    order = np.random.default_rng(0).permutation(80) if shuffled else np.arange(80)
    texts, references = [said[at][0] for at in order], [one[1:] for one in said]
    theirs = {at: [" ".join(one) for one in of_row] for at, of_row in enumerate(references)}
    ours = {at: [" ".join(one)] for at, one in enumerate(texts)}
    pairs = list(zip(texts, references, strict=True))
    rarity = Rarity.of(references)
    np.testing.assert_allclose([rarity.score(*pair) for pair in pairs], cider.compute_score(theirs, ours)[1], atol=1e-3)
    np.testing.assert_allclose([rouge_l(*pair) for pair in pairs], rouge.compute_score(theirs, ours)[1], atol=1e-3)
    found = bleu(np.sum([bleu_counts(*pair) for pair in pairs], axis=0))
    np.testing.assert_allclose(found, blue.compute_score(theirs, ours, verbose=0)[0], atol=1e-3)
