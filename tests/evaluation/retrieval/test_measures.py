"""Measures over all positives are trec_eval's, and their expectation where items tie."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import pairs, unit
from clipmill.evaluation.retrieval.measures import average_precision, ndcg, share_found
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.retrieval.reciprocal import reciprocal_rank
from clipmill.evaluation.vectors import Vectors


def test_ndcg_and_map_are_those_of_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    images, captions, rows = pairs(120, 5, 64, noise=5.0)
    few = np.flatnonzero((np.arange(600) % 5 < 1 + rows % 5) | (rows > 100))
    captions, rows = captions[few], rows[few]
    sides = Vectors(np.arange(120), images), Vectors(rows, captions)
    for queries, gallery in (sides, sides[::-1]):
        ranks = rank_positives(queries, gallery)
        scores = queries.values.astype(np.float64) @ gallery.values.astype(np.float64).T
        truth = {
            f"q{i}": {f"d{j}": 1 for j in np.flatnonzero(gallery.rows == row)} for i, row in enumerate(queries.rows)
        }
        run = {f"q{i}": {f"d{j}": float(score) for j, score in enumerate(line)} for i, line in enumerate(scores)}
        measures = {"map", "ndcg_cut.10", "recall.1,5,10", "recip_rank"}
        expected = pytrec_eval.RelevanceEvaluator(truth, measures).evaluate(run)
        for name, found in (
            ("map", average_precision(ranks)),
            ("ndcg_cut_10", ndcg(ranks, 10)),
            ("recip_rank", reciprocal_rank(ranks)),
            *((f"recall_{k}", share_found(ranks, k)) for k in (1, 5, 10)),
        ):
            assert found == pytest.approx([expected[f"q{i}"][name] for i in range(len(queries))], abs=1e-6)


def by_hand(order: tuple[int, ...], k: int) -> tuple[float, float, float, float]:
    """Share found, nDCG, average precision and reciprocal rank of one order of relevances."""
    right = np.array(order)
    gains = 1 / np.log2(np.arange(2, len(right) + 2))
    ideal = gains[: min(k, right.sum())].sum()
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    found, average = right[:k].sum() / right.sum(), (precision * right).sum() / right.sum()
    return found, (right * gains)[:k].sum() / ideal, average, 1 / (1 + right.argmax())


def ranked(levels: list[tuple[int, int]]) -> Ranks:
    """One query with these levels of (positives, others), best first."""
    sizes = np.array([positives + others for positives, others in levels])
    positives = np.array([positives for positives, _ in levels])
    higher = np.cumsum(sizes) - sizes
    held = positives > 0
    nothing = np.zeros(1, np.int64)
    count = np.array([held.sum()])
    return Ranks(
        nothing, nothing, np.zeros(1), nothing, count, higher[held], sizes[held], positives[held], int(sizes.sum())
    )


@pytest.mark.parametrize(
    "levels", [[(0, 2), (2, 2), (0, 1), (1, 1)], [(3, 3), (1, 0)], [(1, 4)], [(2, 0), (0, 1), (1, 2)]]
)
def test_ties_give_the_mean_over_all_orders(levels: list[tuple[int, int]]) -> None:
    orders: list[tuple[int, ...]] = [()]
    for positives, others in levels:
        tied = list(permutations([1] * positives + [0] * others))
        orders = [(*order, *more) for order in orders for more in tied]
    ranks = ranked(levels)
    for k in (1, 2, 4, 10):
        expected = np.mean([by_hand(order, k) for order in orders], axis=0)
        found = share_found(ranks, k), ndcg(ranks, k), average_precision(ranks), reciprocal_rank(ranks)
        assert np.concatenate(found) == pytest.approx(expected, abs=1e-12)


def test_a_gallery_that_is_all_alike_has_the_precision_of_chance() -> None:
    alike: NDArray[np.float16] = np.repeat(unit(np.arange(1.0, 17.0)[None]), 2000, axis=0)
    ranks = rank_positives(Vectors(np.arange(400), alike[:400]), Vectors(np.repeat(np.arange(400), 5), alike))
    assert share_found(ranks, 10) == pytest.approx(np.full(400, 10 / 2000))
    random = np.random.default_rng(0)
    places = np.sort(np.argsort(random.random((20_000, 2000)), axis=1)[:, :5] + 1, axis=1)
    assert average_precision(ranks) == pytest.approx(np.full(400, np.mean(np.arange(1, 6) / places)), rel=0.05)


def first_place(higher: int, others: int, positives: int) -> float:
    """E[1 / place of the first positive] as the sum over places of its probability, in exact fractions."""
    items = others + positives
    total, likely = Fraction(0), Fraction(positives, items)
    for place in range(1, others + 2):
        total += likely / (higher + place)
        if place <= others:
            likely *= Fraction(items - place - positives + 1, items - place)
    return float(total)


@pytest.mark.parametrize("higher", [0, 1, 7, 900, 1_000_000])
@pytest.mark.parametrize(
    ("others", "positives"), [(0, 1), (0, 5), (1, 1), (3, 2), (40, 5), (400, 30), (2500, 2), (2500, 5)]
)
def test_the_reciprocal_rank_is_the_mean_over_the_places_of_the_first_positive(
    higher: int, others: int, positives: int
) -> None:
    ranks = ranked([(0, higher), (positives, others), (1, 10)])
    assert reciprocal_rank(ranks) == pytest.approx([first_place(higher, others, positives)], rel=1e-9)


@pytest.mark.parametrize("higher", [0, 3, 5000])
@pytest.mark.parametrize("others", [1, 10, 3000, 100_000])
def test_with_one_positive_the_reciprocal_rank_is_the_average_precision(higher: int, others: int) -> None:
    ranks = ranked([(0, higher), (1, others)])
    assert reciprocal_rank(ranks) == pytest.approx(average_precision(ranks), rel=1e-8)
    assert reciprocal_rank(ranks) > 1 / ranks.expected_rank()
