"""Small neighbours become one: few files stay, and no row is written more often than its file can grow."""

import math
import random

import pytest

from clipmill.core.schemas import ROWS_PER_SHARD
from clipmill.versions.compact import GROWTH, compacted


def sizes_after(sizes: list[int], full: int) -> list[int]:
    return [sum(sizes[one.start : one.stop]) for one in compacted(sizes, full)]


@pytest.mark.parametrize(
    ("sizes", "after"),
    [
        ([], []),
        ([1], [1]),
        ([5] * 7, [5] * 7),
        ([5] * 8, [40]),
        ([1000, *[5] * 8, 900], [1000, 40, 900]),  # larger than a ninth of a full one: they stay
        ([100, *[5] * 8], [100, 40]),
        ([40] * 7 + [5] * 8, [320]),
        ([40, 40, *[5] * 7, 40], [40, 40, *[5] * 7, 40]),
        ([1] * 2000, [1000, 1000]),
        ([100, *[50] * 16, 111, *[50] * 8], [900, 111, 400]),
        ([0, 3, 0, 0], [0, 3, 0]),
    ],
)
def test_neighbours_join_where_the_whole_is_eight_times_the_largest(sizes: list[int], after: list[int]) -> None:
    assert sizes_after(sizes, 1000) == after


def test_in_years_of_nights_few_small_files_stay_and_rows_are_seldom_written_again() -> None:
    """Each file is a list of its nights, so that it is known how often the rows of each were written again."""
    chance = random.Random(0)
    files: list[list[int]] = [[0]]
    rows, written = [500_000], [0]
    most = 0
    for night in range(1, 1500):
        rows.append(chance.randint(1, 2000))
        written.append(0)
        files.append([night])
        ranges = compacted([sum(rows[one] for one in file) for file in files])
        assert [position for one in ranges for position in one] == list(range(len(files)))
        for one in ranges:
            if len(one) > 1:
                for position in one:
                    for before in files[position]:
                        written[before] += 1
        files = [[one for position in joined for one in files[position]] for joined in ranges]
        small = [file for file in files if (GROWTH + 1) * sum(rows[one] for one in file) <= ROWS_PER_SHARD]
        most = max(most, len(small))
        assert all(sum(rows[one] for one in file) <= ROWS_PER_SHARD for file in files if len(file) > 1)
    assert files[0] == [0]
    assert written[0] == 0
    assert [one for file in files for one in file] == list(range(1500))
    for night, times in enumerate(written[1:], start=1):
        assert times <= math.log(ROWS_PER_SHARD / rows[night], GROWTH)
    assert most < 40
    assert len(files) < most + sum(rows) / (ROWS_PER_SHARD / (GROWTH + 1))
