"""Rows grouped by blocks: each block reads the rows that are at home in it or look into it, and only these."""

import numpy as np
import pytest

from clipmill.curate.cells import Cells
from clipmill.curate.grouping import Blocks, Looks, group_rows, rows_of
from clipmill.curate.near import Pairs

DIMENSION, CELLS, STRIP = 8, 12, 40


@pytest.fixture
def cells() -> Cells:
    rng = np.random.default_rng(0)
    centroids = rng.standard_normal((CELLS, DIMENSION)).astype(np.float32)
    return Cells(centroids[:3], centroids, np.array([0, 4, 8, CELLS]))


def test_a_block_reads_what_brute_force_says_it_needs(cells: Cells) -> None:
    rng = np.random.default_rng(1)
    blocks = Blocks(np.array([0, 5, 5, 9, CELLS]))  # the second holds no cell
    stored = rng.standard_normal((2 * STRIP, DIMENSION)).astype(np.float16)
    homes = rng.integers(0, CELLS, 2 * STRIP)
    looks = {
        (int(row), int(cell)) for row, cell in zip(*rng.integers(0, [[2 * STRIP], [CELLS]], (2, 150)), strict=True)
    }
    looks = {(row, cell) for row, cell in looks if cell != homes[row]}
    asleep = {3, STRIP + 7}  # rows that another stands for
    strips = []
    for start in (0, STRIP):
        here = np.arange(start, start + STRIP)
        active = np.array([row - start for row in here if row not in asleep])
        mine = sorted((row - start, cell) for row, cell in looks if start <= row < start + STRIP)
        rows, looked = np.array(mine).T
        told = Looks(homes[here], rows, looked)
        grouped, parts = group_rows(stored[here], start, active, Pairs.join([]), told, blocks)
        strips.append((grouped, b"".join(parts)))
    for block in range(4):
        inside = set(range(*blocks.starts[block : block + 2].tolist()))
        parts = []
        for grouped, data in strips:
            begin, entries, told = grouped.range_of(block, DIMENSION)
            parts.append((data[begin : begin + entries + told], entries))
        found = rows_of(parts, DIMENSION)
        wanted = {row for row in range(2 * STRIP) if homes[row] in inside} | {
            row for row, cell in looks if cell in inside
        }
        assert found.positions.tolist() == sorted(wanted - asleep)
        assert found.homes.tolist() == homes[found.positions].tolist()
        np.testing.assert_array_equal(found.vectors, stored[found.positions])
        pairs = set(zip(found.positions[found.look_rows].tolist(), found.look_cells.tolist(), strict=True))
        assert pairs == {(row, cell) for row, cell in looks if cell in inside and row not in asleep}
        assert len(pairs) == len(found.look_rows)
    assert all(
        len(data) == grouped.range_of(3, DIMENSION)[0] + sum(grouped.range_of(3, DIMENSION)[1:])
        for grouped, data in strips
    )


def test_blocks_hold_nearly_as_many_rows_each(cells: Cells) -> None:
    homes = np.repeat(np.arange(CELLS), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9])
    blocks = Blocks.of(cells, homes, 3)
    assert blocks.starts[0] == 0
    assert blocks.starts[-1] == CELLS
    rows = [int(np.isin(homes, np.arange(*blocks.starts[block : block + 2])).sum()) for block in range(3)]
    assert sum(rows) == len(homes)
    assert rows[0] == 7
    assert blocks.of_cells(np.array([0, 11])).tolist() == [0, 2] or blocks.of_cells(np.array([11])).tolist() == [1]
