"""The least cosine of each group, by pairs and by vectors, beside brute force; and a bound that is one."""

import numpy as np
import pytest

from clipmill.curate import widths
from clipmill.curate.groups import groups_of
from clipmill.curate.near import Pairs
from clipmill.curate.widths import Groups, batches_of, least_cosine, widths_by_pairs, widths_by_vectors
from clustered import image_and_caption_vectors, unit


@pytest.fixture(scope="module")
def stored() -> np.ndarray:
    return image_and_caption_vectors(600, 1, 32, seed=2)[0]


@pytest.fixture(scope="module")
def pairs(stored: np.ndarray) -> Pairs:
    whole = unit(stored.astype(np.float64))
    cosines = whole @ whole.T
    first, second = np.nonzero(np.triu(cosines >= 0.9, 1))
    return Pairs(first, second, cosines[first, second].astype(np.float32))


def test_each_group_has_the_cosine_of_its_two_rows_that_are_least_alike(stored: np.ndarray, pairs: Pairs) -> None:
    groups = Groups(*groups_of(pairs.first, pairs.second))
    whole = unit(stored.astype(np.float64))
    known = widths_by_pairs(groups, pairs)
    others = np.setdiff1d(np.arange(len(groups.sizes)), known.groups)
    inside = np.isin(groups.numbers, others)
    measured = widths_by_vectors(groups.numbers[inside], stored[groups.members[inside]])
    assert len(known.groups) > 0
    assert len(others) > 0
    assert sorted([*known.groups, *measured.groups]) == list(range(len(groups.sizes)))
    for width in (known, measured):
        for group, least in zip(width.groups, width.least, strict=True):
            rows = whole[groups.members[groups.numbers == group]]
            assert least == pytest.approx((rows @ rows.T).min(), abs=1e-5)


def test_a_very_large_group_has_a_bound_below_its_least_cosine(
    stored: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = least_cosine(stored)
    monkeypatch.setattr(widths, "EXACT_MEMBERS", 100)
    assert least_cosine(stored) <= exact
    near = stored[:1] + np.linspace(0, 0.01, 200)[:, None].astype(np.float16) * stored[1:2]
    assert least_cosine(near.astype(np.float16)) > 0.99


def test_groups_are_read_in_runs_of_bounded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widths, "BATCH_ROWS", 10)
    sizes = [4, 3, 9, 2, 30, 2]
    groups = Groups(np.arange(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes))
    batches = batches_of(groups, np.array([0, 1, 2, 4, 5]))
    assert np.concatenate(batches).tolist() == [0, 1, 2, 4, 5]
    assert all(sum(sizes[group] for group in batch) <= 10 + max(sizes) for batch in batches)
    assert len(batches) > 2
    assert batches_of(groups, np.empty(0, np.int64)) == []


def test_no_group_has_no_width() -> None:
    none = Groups(np.empty(0, np.int64), np.empty(0, np.int64))
    assert widths_by_pairs(none, Pairs.join([])).groups.size == 0
