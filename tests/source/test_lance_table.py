"""A Lance table is read where it lies: its rows without the deleted ones, and rows that stay keep their numbers."""

import importlib.util
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import clipmill
from clipmill.core.errors import RunFailed, UserError
from clipmill.source.columns import choose_columns
from clipmill.source.cutting import plan_units
from clipmill.source.inputs import find_inputs, refuse_unreachable
from clipmill.source.reading import read_units
from pictures import noisy

ROWS = 250


def rows_from(first: int, count: int) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table({"id": [f"i{n}" for n in numbers], "caption": [[f"caption {n}"] for n in numbers]})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three fragments."""
    lance.write_dataset(rows_from(0, ROWS), str(tmp_path / "a.lance"), max_rows_per_file=100)
    return tmp_path / "a.lance"


def read(table: Path, rows: int = 30) -> list[dict[str, Any]]:
    inputs = find_inputs(str(table))
    units = list(plan_units(inputs, rows))
    return [row for part in read_units(units, inputs, choose_columns(inputs)) for row in part.to_pylist()]


def test_rows_are_those_of_the_table_by_fragment(table: Path) -> None:
    refuse_unreachable(str(table))
    expected = [(number // 100 << 32) + number % 100 for number in range(ROWS)]
    for size in (7, 1000):
        found = read(table, size)
        assert [row["id"] for row in found] == lance.dataset(str(table)).to_table().column("id").to_pylist()
        assert [row["row"] for row in found] == expected
        assert found[120]["captions"] == ["caption 120"]


def test_deleted_rows_are_not_read_and_make_their_fragment_another_file(table: Path) -> None:
    before = find_inputs(str(table))
    lance.dataset(str(table)).delete("id = 'i120' or id = 'i5'")
    assert [row["id"] for row in read(table)] == [f"i{n}" for n in range(ROWS) if n not in (5, 120)]
    after = find_inputs(str(table))
    assert [one.etag == other.etag for one, other in zip(before, after, strict=True)] == [False, False, True]
    units = list(plan_units(before, 100))
    with pytest.raises(RunFailed, match="it was changed since the run began"):
        list(read_units(units, before, choose_columns(before)))


def test_appended_rows_are_new_files_beside_the_old(table: Path) -> None:
    before = find_inputs(str(table))
    lance.write_dataset(rows_from(ROWS, 10), str(table), mode="append")
    after = find_inputs(str(table))
    assert after[: len(before)] == before
    assert [file.rows for file in after] == [100, 100, 50, 10]


def test_pictures_of_a_table_are_embedded_and_verified(tmp_path: Path) -> None:
    made = pa.table({"image": [noisy(20, 30, n) for n in range(20)], "caption": [f"number {n}" for n in range(20)]})
    lance.write_dataset(made, str(tmp_path / "a.lance"))
    manifest = clipmill.embed(tmp_path / "a.lance", tmp_path / "out")
    assert (manifest.counts.images, manifest.counts.captions) == (20, 20)
    assert [fault for found in clipmill.verify(tmp_path / "out") for fault in found.faults] == []


def test_what_is_no_table_and_a_folder_around_one_are_told(table: Path, tmp_path: Path) -> None:
    (tmp_path / "no.lance").mkdir()
    with pytest.raises(UserError, match="no Lance table that can be opened"):
        find_inputs(str(tmp_path / "no.lance"))
    with pytest.raises(UserError, match=rf"name the table itself: {table}"):
        find_inputs(str(tmp_path))


def test_a_missing_package_is_told_with_what_to_type(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "lance" else found(name, *more)
    )
    with pytest.raises(UserError, match=r"pip install 'clipmill\[lance\]'"):
        find_inputs(str(table))
