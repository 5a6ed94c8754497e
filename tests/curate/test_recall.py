"""The recall that is told is the share of true pairs that are listed, with intervals that take rows for what was drawn."""

import numpy as np
import pytest

from clipmill.core.intervals import proportion_interval
from clipmill.core.near_pairs import short
from clipmill.curate.near import Pairs
from clipmill.curate.recall import TruePairs, are_found, measure_recall


def pairs_of(pairs: list[tuple[int, int]]) -> Pairs:
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return Pairs(first, second, np.full(len(first), 0.97, np.float32))


def true_pairs(pairs: list[tuple[int, int]], cosines: list[float]) -> TruePairs:
    row, other = np.array(pairs, np.int64).reshape(-1, 2).T
    return TruePairs(row, other, np.array(cosines, np.float32))


def test_recall_counts_listed_pairs_over_all_and_by_band() -> None:
    truth = true_pairs([(4, 1), (4, 9), (7, 8), (7, 2)], [0.955, 0.965, 0.955, 0.999])
    told = measure_recall(truth, 10, pairs_of([(1, 4), (2, 7), (7, 8)]), pairs_of([]), 20, 0.95)
    assert (told.rows, told.rows_with_pairs) == (10, 2)
    assert told.recall == proportion_interval(np.array([1.0, 0, 1, 1]), np.array([4, 4, 7, 7]))
    assert [band.low for band in told.bands] == pytest.approx([0.95, 0.96, 0.97, 0.98, 0.99])
    assert [(band.recall.value, band.recall.n) if band.recall else None for band in told.bands] == [
        (1, 2),
        (0, 1),
        None,
        None,
        (1, 1),
    ]


def test_pairs_of_one_row_widen_the_interval() -> None:
    cosines = [0.96] * 40
    apart = true_pairs([(row, 100 + row) for row in range(40)], cosines)
    together = true_pairs([(row // 20, 100 + row) for row in range(40)], cosines)
    widths = []
    for truth in (apart, together):
        listed = pairs_of([(int(row), int(other)) for row, other in zip(truth.row[:20], truth.other[:20], strict=True)])
        recall = measure_recall(truth, 40, listed, pairs_of([]), 200, 0.95).recall
        assert recall is not None
        widths.append(recall.high - recall.low)
    assert widths[1] > 1.5 * widths[0]


def test_a_row_stands_for_those_with_its_vector() -> None:
    alike = pairs_of([(2, 5), (5, 6), (2, 9)])  # 2 stands for 5, 6 and 9
    truth = true_pairs([(6, 9), (6, 3), (9, 4)], [1.0, 0.96, 0.96])
    assert are_found(truth, pairs_of([(2, 3), (2, 5), (2, 9)]), alike, 20).tolist() == [True, True, False]


def test_without_any_pair_no_share_is_told() -> None:
    told = measure_recall(true_pairs([], []), 3072, pairs_of([(1, 2)]), pairs_of([]), 20, 0.95)
    assert told.recall is None
    assert (
        told.in_words(0.95) == "finds an unknown share of pairs of .95 and more: 3,072 rows drawn at random have none"
    )


@pytest.mark.parametrize(
    ("number", "text"), [(0.998, ".998"), (0.95, ".95"), (1.0, "1"), (0.0, "0"), (-0.25, "-.25"), (0.99996, "1")]
)
def test_shares_are_told_with_three_digits_at_most(number: float, text: str) -> None:
    assert short(number) == text
