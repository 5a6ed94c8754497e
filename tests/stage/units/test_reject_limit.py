"""A run whose input is rotten ends at the limit that was set, and not before."""

from collections import Counter

import pytest

from clipmill.core.errors import RunFailed
from clipmill.embedding.statistics import Statistics
from clipmill.stage.units.reject_limit import RejectLimit, rejects_by_reason
from clipmill.stage.units.sums import REASON


def limit(most: int | float | None) -> RejectLimit:
    return RejectLimit(most, Statistics, "images and captions")


def counts(images: int, rejected: int, captions: int = 0) -> Counter[str]:
    return Counter(
        {
            "images": images,
            "captions": captions,
            "rejected_images": rejected,
            "rejected_captions": 0,
            REASON + "not_an_image": rejected,
        }
    )


def test_a_number_is_exceeded_by_one_more() -> None:
    limit(5).check(counts(10, 5))
    with pytest.raises(RunFailed, match=r"6 of 16 .*not_an_image 6.*--max-rejects 5"):
        limit(5).check(counts(10, 6))


def test_none_at_all_may_be_demanded() -> None:
    limit(0).check(counts(10, 0))
    with pytest.raises(RunFailed):
        limit(0).check(counts(10, 1))


def test_a_share_counts_images_and_captions() -> None:
    limit(0.01).check(counts(1000, 20, captions=980), all_done=True)
    with pytest.raises(RunFailed, match=r"21 of 2,001 "):
        limit(0.01).check(counts(1000, 21, captions=980), all_done=True)


def test_a_share_is_not_judged_by_the_first_few() -> None:
    limit(0.01).check(counts(500, 499))
    with pytest.raises(RunFailed):
        limit(0.01).check(counts(500, 500))
    with pytest.raises(RunFailed):
        limit(0.01).check(counts(5, 5), all_done=True)


def test_without_a_limit_everything_may_be_rejected() -> None:
    limit(None).check(counts(0, 10_000), all_done=True)


def test_rejects_are_sorted_by_how_many_there_are() -> None:
    found = rejects_by_reason({REASON + "b": 1, REASON + "a": 5, "rows": 9, REASON + "c": 0})
    assert list(found.items()) == [("a", 5), ("b", 1)]
