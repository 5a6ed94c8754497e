"""The interval of a share holds the truth as often as it says, near 1 and of few images too."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from clipmill.core.intervals import clustered_ends, proportion_interval

IMAGES = (30, 50, 100, 300, 1000)
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
DRAWS = 1500


def drawn(
    kind: str, images: int, share: float, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of hits (draws, images) whose expectation is ``share`` a query, and how many queries each image has."""
    captions, alike = {
        "one caption an image": (np.ones(images, int), 0.0),
        "five captions, each on its own": (np.full(images, 5), 0.0),
        "five captions, rather alike": (np.full(images, 5), 0.3),
        "one to seven captions, much alike": (1 + np.arange(images) % 7, 0.9),
        "one to seven captions that agree": (1 + np.arange(images) % 7, 1.0),
    }[kind]
    chance = np.full((DRAWS, images), share)
    if alike == 1:
        chance = (random.random((DRAWS, images)) < share).astype(float)
    elif alike:
        rest = (1 - alike) / alike
        chance = random.beta(share * rest, (1 - share) * rest, (DRAWS, images))
    return random.binomial(captions, chance).astype(float), captions.astype(float)


@pytest.mark.parametrize(
    "kind",
    [
        "one caption an image",
        "five captions, each on its own",
        "five captions, rather alike",
        "one to seven captions, much alike",
        "one to seven captions that agree",
    ],
)
def test_the_truth_lies_in_the_interval_in_every_cell(kind: str) -> None:
    random = np.random.default_rng(0)
    for images in IMAGES:
        for share in SHARES:
            sums, sizes = drawn(kind, images, share, random)
            for found, truth in ((sums, share), (sizes - sums, 1 - share)):
                _, low, high = clustered_ends(found, sizes)
                below, above = np.mean(high < truth), np.mean(low > truth)
                assert 1 - below - above >= 0.93, (images, truth)
                assert max(below, above) <= 0.04, (images, truth)


@pytest.mark.parametrize("share", [0.6, 0.9, 0.98])
def test_the_interval_is_little_wider_than_the_spread_of_the_share(share: float) -> None:
    random = np.random.default_rng(1)
    for kind in ("one caption an image", "five captions, each on its own", "five captions, rather alike"):
        sums, sizes = drawn(kind, 1000, share, random)
        value, low, high = clustered_ends(sums, sizes)
        assert np.mean(high - low) < 1.12 * 3.92 * np.std(value)


def test_of_one_query_an_image_it_is_clopper_and_pearsons() -> None:
    hits = np.repeat([1.0, 0.0], [58, 2])
    interval = proportion_interval(hits, np.arange(60))
    # The variance of 60 single queries is that of 60 trials, but for the 60 / 59 of its estimate.
    trials = 60 * (2 / (60 / 59) + 1) / (2 + 1)
    found = (
        beta.ppf(0.025, 58 / 60 * trials, 2 / 60 * trials + 1),
        beta.ppf(0.975, 58 / 60 * trials + 1, 2 / 60 * trials),
    )
    assert (interval.value, interval.n) == (58 / 60, 60)
    assert (interval.low, interval.high) == pytest.approx(found, rel=1e-9)
    assert (interval.low, interval.high) == pytest.approx((0.8847, 0.9959), abs=0.002)  # of 60 trials, to 4 digits


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_alike_is_as_sure_as_so_many_images_and_not_queries(value: float) -> None:
    margin = 1 - 0.025 ** (1 / 100)
    for each in (1, 5):
        interval = proportion_interval(np.full(100 * each, value), np.repeat(np.arange(100), each))
        assert (interval.low, interval.high) == pytest.approx((0, margin) if value == 0 else (1 - margin, 1))
        assert interval.n == 100 * each
    alone = proportion_interval(np.full(3, value), np.zeros(3, np.int64))
    assert alone.high - alone.low == pytest.approx(0.975)


def test_captions_that_agree_tell_as_much_as_their_image() -> None:
    each = (np.random.default_rng(0).random(400) < 0.6).astype(float)
    images = proportion_interval(each, np.arange(400))
    captions = proportion_interval(np.repeat(each, 5), np.repeat(np.arange(400), 5))
    assert captions.value == pytest.approx(images.value)
    assert (captions.low, captions.high) == pytest.approx((images.low, images.high))


def test_shares_between_0_and_1_have_intervals_of_their_own_spread() -> None:
    random = np.random.default_rng(2)
    held = []
    for _ in range(600):
        interval = proportion_interval(random.binomial(20, 0.9, 200) / 20, np.arange(200))
        held.append(interval.low <= 0.9 <= interval.high)
        assert interval.high - interval.low < 0.03
    assert 0.93 <= np.mean(held) <= 0.98


def test_queries_that_weigh_more_count_more() -> None:
    hits, rows = np.array([1.0, 1.0, 0.0, 1.0]), np.arange(4)
    weighed = proportion_interval(hits, rows, np.array([1.0, 1.0, 2.0, 0.0]))
    assert weighed.value == pytest.approx(0.5)


def test_no_query_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no query"):
        proportion_interval(np.empty(0), np.empty(0, np.int64))
