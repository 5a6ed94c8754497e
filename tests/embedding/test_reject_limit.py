"""A run whose input is rotten ends at the limit that was set, and not before."""

from collections import Counter

import pytest

from clipmill.core.errors import RunFailed
from clipmill.embedding.reject_limit import REASON, RejectLimit, rejects_by_reason


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
    RejectLimit(5).check(counts(10, 5))
    with pytest.raises(RunFailed, match=r"6 of 16 .*not_an_image 6.*--max-rejects 5"):
        RejectLimit(5).check(counts(10, 6))


def test_none_at_all_may_be_demanded() -> None:
    RejectLimit(0).check(counts(10, 0))
    with pytest.raises(RunFailed):
        RejectLimit(0).check(counts(10, 1))


def test_a_share_counts_images_and_captions() -> None:
    RejectLimit(0.01).check(counts(1000, 20, captions=980), all_done=True)
    with pytest.raises(RunFailed, match=r"21 of 2,001 "):
        RejectLimit(0.01).check(counts(1000, 21, captions=980), all_done=True)


def test_a_share_is_not_judged_by_the_first_few() -> None:
    RejectLimit(0.01).check(counts(500, 499))
    with pytest.raises(RunFailed):
        RejectLimit(0.01).check(counts(500, 500))
    with pytest.raises(RunFailed):
        RejectLimit(0.01).check(counts(5, 5), all_done=True)


def test_without_a_limit_everything_may_be_rejected() -> None:
    RejectLimit(None).check(counts(0, 10_000), all_done=True)


def test_rejects_are_sorted_by_how_many_there_are() -> None:
    found = rejects_by_reason({REASON + "b": 1, REASON + "a": 5, "rows": 9, REASON + "c": 0})
    assert list(found.items()) == [("a", 5), ("b", 1)]
