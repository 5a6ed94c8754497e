"""Queries are paired by what they are, whatever the order of files and rows, and nothing else is."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from clipmill.report.comparison.pair import pair
from clipmill.report.document import KeptQueries
from clipmill.report.queries import QUERIES

ALL = KeptQueries(asked=0, kept=0, hash_below=1 << 32)


def table(queries: Sequence[tuple[str | None, int, int | None]], ids: Sequence[str] | None = None) -> pa.Table:
    records = [
        {
            "task": "t2i",
            "path": path,
            "row_number": row,
            "caption_index": index,
            "id": ids[i] if ids else f"{path}{row}",
        }
        for i, (path, row, index) in enumerate(queries)
    ]
    return pa.Table.from_pylist(records, schema=QUERIES)


def names(found: pa.Table, at: np.ndarray) -> list[tuple]:
    columns = found.select(["path", "row_number", "caption_index"]).take(pa.array(at)).to_pydict()
    return list(zip(*columns.values(), strict=True))


QUERY_LIST = [(path, row, index) for path in ("a", "b", "ä/b") for row in (0, 7, (1 << 32) - 1) for index in (0, 1)]


def test_every_query_meets_itself_in_another_order() -> None:
    order = np.random.default_rng(0).permutation(len(QUERY_LIST))
    first, second = table(QUERY_LIST), table([QUERY_LIST[i] for i in order])
    pairs = pair(first, second, (ALL, ALL), "path")
    assert sorted(names(first, pairs.at_first)) == sorted(QUERY_LIST)
    assert names(first, pairs.at_first) == names(second, pairs.at_second)
    by_image = {}
    for query, image in zip(names(first, pairs.at_first), pairs.images.tolist(), strict=True):
        by_image.setdefault(query[:2], set()).add(image)
    assert all(len(numbers) == 1 for numbers in by_image.values())
    assert len({next(iter(numbers)) for numbers in by_image.values()}) == 9
    assert pairs.share == 1


def test_what_is_in_one_only_is_left_out_and_counts_in_the_share() -> None:
    pairs = pair(table(QUERY_LIST[:12]), table([*QUERY_LIST[3:], ("c", 0, 0)]), (ALL, ALL), "path")
    assert len(pairs) == 9
    assert (pairs.of_first, pairs.of_second, pairs.share) == (12, 16, 9 / 16)


def test_a_query_whose_source_is_not_known_meets_none() -> None:
    unknown = [(None, row, 0) for row in range(3)]
    assert len(pair(table(unknown), table(unknown), (ALL, ALL), "path")) == 0


def test_images_have_no_caption_index_and_meet_all_the_same() -> None:
    images = [("a", row, None) for row in range(4)]
    assert len(pair(table(images), table(images[::-1]), (ALL, ALL), "path")) == 4


def test_by_id_files_may_have_moved_and_an_id_that_repeats_names_nothing() -> None:
    first = table([("old/a", row, 0) for row in range(4)], ["w", "x", "y", "y"])
    second = table([("new/a", row, 0) for row in range(4)], ["y", "x", "w", "z"])
    assert len(pair(first, second, (ALL, ALL), "path")) == 0
    pairs = pair(first, second, (ALL, ALL), "id")
    assert sorted(zip(pairs.at_first.tolist(), pairs.at_second.tolist(), strict=True)) == [(0, 2), (1, 1)]
    assert pairs.ambiguous == 2


@pytest.mark.parametrize("below", [1 << 30, 1 << 31])
def test_two_samples_are_compared_where_both_had_to_keep_the_query(below: int) -> None:
    queries = [("a", row, 0) for row in range(2000)]
    everything = table(queries)
    half = KeptQueries(asked=2000, kept=0, hash_below=below)
    pairs = pair(everything, everything, (ALL, half), "path")
    assert pairs.share == 1
    assert len(pairs) == pytest.approx(2000 * below / (1 << 32), rel=0.1)
