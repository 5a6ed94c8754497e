"""Units cover the input once, in order, within their size, and never make a row group be read twice."""

import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from clipmill.source.cutting import MAX_ENCODED_BYTES, plan_units, rows_per_unit
from clipmill.source.grouping import read_groups, slices
from clipmill.source.input_file import InputFile


def an_input(ordinal: int, row_groups: list[int], row_bytes: int = 100) -> InputFile:
    sizes = tuple(rows * row_bytes for rows in row_groups)
    return InputFile(ordinal, f"{ordinal}", 1, "", sum(row_groups), tuple(row_groups), sizes, pa.schema([]))


def some_inputs(seed: int) -> list[InputFile]:
    """Empty files, empty row groups, tiny and large ones."""
    random_ = random.Random(seed)
    largest = random_.choice([1, 5, 60, 700])
    files = []
    for ordinal in range(random_.randrange(1, 12)):
        groups = [random_.randrange(largest + 1) for _ in range(random_.randrange(6))]
        files.append(an_input(ordinal * 3, groups, random_.choice([1, 100, 4 << 20])))
    return files


@pytest.mark.parametrize("seed", range(200))
def test_every_row_is_in_exactly_one_unit_in_order_and_within_the_size(seed: int) -> None:
    inputs = some_inputs(seed)
    most = random.Random(-seed).choice([1, 2, 7, 64, 1024])
    units = list(plan_units(inputs, most))
    covered = [(s.ordinal, row) for unit in units for s in unit.spans for row in range(s.start, s.stop)]
    assert covered == [(file.ordinal, row) for file in inputs for row in range(file.rows)]
    assert [unit.number for unit in units] == list(range(len(units)))
    assert all(0 < unit.rows <= most for unit in units)


@pytest.mark.parametrize("seed", range(100))
def test_a_row_group_is_read_by_one_group_only(seed: int) -> None:
    inputs = some_inputs(seed)
    units = plan_units(inputs, 32)
    groups = read_groups(units, inputs)
    assert [unit for group in groups for unit in group] == list(units)
    readers: dict[tuple[int, int], set[int]] = {}
    for number, group in enumerate(groups):
        for unit in group:
            for span in unit.spans:
                for row in range(span.start, span.stop):
                    file = next(file for file in inputs if file.ordinal == span.ordinal)
                    at = next(g for g in range(len(file.row_group_rows)) if row < sum(file.row_group_rows[: g + 1]))
                    readers.setdefault((span.ordinal, at), set()).add(number)
    assert all(len(numbers) == 1 for numbers in readers.values())


def test_units_left_after_a_break_still_share_their_row_group() -> None:
    inputs = [an_input(0, [100, 100])]
    left = plan_units(inputs, 30).take([1, 3, 5])
    assert [[unit.number for unit in group] for group in read_groups(left, inputs)] == [[1, 3], [5]]


def test_many_row_groups_make_few_tasks() -> None:
    inputs = [an_input(ordinal, [50, 10]) for ordinal in range(100)]
    units = plan_units(inputs, 20)
    groups = read_groups(units, inputs, most=7)
    assert len(groups) <= 7
    assert [unit for group in groups for unit in group] == list(units)


def test_what_one_task_reads_is_bounded_where_few_tasks_are_wanted() -> None:
    """A task is done again as a whole where its machine is lost."""
    inputs = [an_input(ordinal, [50, 10], row_bytes=10) for ordinal in range(100)]
    units = plan_units(inputs, 20)
    groups = read_groups(units, inputs, most=7, most_bytes=2_000)
    assert [unit for group in groups for unit in group] == list(units)
    assert max(int(group.rows.sum()) for group in groups) * 10 <= 2_000
    assert len(groups) < 60


def test_a_row_group_beyond_the_bound_stays_one_tasks() -> None:
    inputs = [an_input(0, [1000, 10], row_bytes=100)]
    groups = read_groups(plan_units(inputs, 100), inputs, most=1, most_bytes=1_000)
    assert [int(group.rows.sum()) for group in groups] == [1000, 10]


@pytest.mark.parametrize("seed", range(100))
def test_slices_hold_all_units_in_order_and_share_no_row_group(seed: int) -> None:
    inputs = some_inputs(seed)
    units = plan_units(inputs, 20)
    most = random.Random(seed).choice([1, 4, 7, 50])
    runs = [units[one] for one in slices(units, inputs, most)]
    assert [unit for run in runs for unit in run] == list(units)
    groups = [[list(group) for group in read_groups(run, inputs)] for run in runs]
    assert [group for run in groups for group in run] == [list(group) for group in read_groups(units, inputs)]
    assert all(len(run) <= most or len(read_groups(run, inputs)) == 1 for run in runs)


def test_slices_are_of_about_one_size() -> None:
    inputs = [an_input(ordinal, [50, 10]) for ordinal in range(40)]
    units = plan_units(inputs, 20)
    sizes = [len(units[one]) for one in slices(units, inputs, 50)]
    assert len(sizes) == -(-len(units) // 50)
    assert max(sizes) - min(sizes) <= 4


def naive_units(inputs: list[InputFile], most: int, limit: int | None) -> list[list[tuple[int, int, int]]]:
    """Row group by row group: what fits into the unit before joins it, what fits into no unit is cut evenly."""
    units: list[list[tuple[int, int, int]]] = []
    rows = size = 0
    room = False
    left = sum(file.rows for file in inputs) if limit is None else limit
    for file in inputs:
        start = 0
        for group, group_bytes in zip(file.row_group_rows, file.row_group_bytes, strict=True):
            taken = min(group, left)
            left -= taken
            if taken:
                taken_bytes = group_bytes * taken // group
                pieces = min(taken, max(-(-taken // most), -(-taken_bytes // MAX_ENCODED_BYTES)))
                if pieces > 1:
                    cuts = [start + taken * at // pieces for at in range(pieces + 1)]
                    units += [[(file.ordinal, a, b)] for a, b in pairwise(cuts)]
                    room = False
                elif room and rows + taken <= most and size + taken_bytes <= MAX_ENCODED_BYTES:
                    rows, size = rows + taken, size + taken_bytes
                    last = units[-1][-1]
                    if last[0] == file.ordinal:
                        units[-1][-1] = (last[0], last[1], start + taken)
                    else:
                        units[-1].append((file.ordinal, start, start + taken))
                else:
                    units.append([(file.ordinal, start, start + taken)])
                    rows, size, room = taken, taken_bytes, True
            start += group
    return units


@pytest.mark.parametrize("seed", range(200))
def test_units_are_those_of_packing_row_group_by_row_group(seed: int) -> None:
    inputs = some_inputs(seed)
    chosen = random.Random(seed)
    most, limit = chosen.choice([1, 2, 7, 64, 1024]), chosen.choice([None, None, 1, 17, 300])
    found = [[(s.ordinal, s.start, s.stop) for s in unit.spans] for unit in plan_units(inputs, most, limit)]
    assert found == naive_units(inputs, most, limit)


@pytest.mark.parametrize("seed", range(20))
def test_units_taken_are_the_same_units(seed: int) -> None:
    units = plan_units(some_inputs(seed), 16)
    mask = np.random.default_rng(seed).random(len(units)) < 0.5
    assert list(units.take(mask)) == [unit for unit, chosen in zip(units, mask, strict=True) if chosen]
    assert units.rows.tolist() == [unit.rows for unit in units]


def test_tiny_files_are_packed_and_a_large_row_group_is_cut_evenly() -> None:
    tiny = list(plan_units([an_input(ordinal, [10]) for ordinal in range(250)], 1000))
    assert [unit.rows for unit in tiny] == [1000, 1000, 500]
    large = list(plan_units([an_input(0, [2500])], 1000))
    assert sorted(unit.rows for unit in large) == [833, 833, 834]


def test_neighbouring_row_groups_are_one_span() -> None:
    (unit,) = plan_units([an_input(0, [10, 20, 30])], 100)
    assert [(span.start, span.stop) for span in unit.spans] == [(0, 60)]


def test_large_rows_make_smaller_units() -> None:
    row_bytes = MAX_ENCODED_BYTES // 10
    units = list(
        plan_units([an_input(0, [100], row_bytes), an_input(1, [5], row_bytes), an_input(2, [5], row_bytes)], 1000)
    )
    assert max(unit.rows for unit in units) == 10
    assert sum(unit.rows for unit in units) == 110


@pytest.mark.parametrize("limit", [1, 9, 10, 11, 25, 10_000])
def test_a_limit_takes_the_first_rows(limit: int) -> None:
    inputs = [an_input(0, [10]), an_input(1, [10, 10])]
    covered = [
        (s.ordinal, row) for u in plan_units(inputs, 7, limit) for s in u.spans for row in range(s.start, s.stop)
    ]
    assert covered == [(file.ordinal, row) for file in inputs for row in range(file.rows)][:limit]


def test_rows_per_unit_is_64_mib_of_pixels_within_bounds() -> None:
    assert rows_per_unit(224, 224, 10**6) == 64 * 1024 * 1024 // (224 * 224 * 3)
    assert rows_per_unit(64, 64, 10**6) == 1024
    assert rows_per_unit(8000, 8000, 10**6) == 1


def test_few_rows_make_small_units_that_all_encoders_can_share() -> None:
    assert rows_per_unit(224, 224, 2000) == 125
    assert rows_per_unit(64, 64, 500) == 64
    assert rows_per_unit(8000, 8000, 500) == 1
