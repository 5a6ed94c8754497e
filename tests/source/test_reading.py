"""Units come back as tables that hold the source's values, whatever its types, in order and once."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import RunFailed, UserError
from clipmill.source import reading
from clipmill.source.columns import choose_columns
from clipmill.source.cutting import plan_units
from clipmill.source.grouping import read_groups
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.reading import read_units, refuse_urls

Write = Callable[..., Path]


def read(folder: Path, rows_per_unit: int = 5, **options: Any) -> list[pa.Table]:
    inputs = find_inputs(str(folder))
    columns = choose_columns(inputs, **options)
    units = plan_units(inputs, rows_per_unit)
    tables = [table for group in read_groups(units, inputs) for table in read_units(group, inputs, columns)]
    assert [table.num_rows for table in tables] == [unit.rows for unit in units]
    return tables


def rows_of(folder: Path, **options: Any) -> list[dict[str, Any]]:
    return pa.concat_tables(read(folder, **options)).to_pylist()


@pytest.mark.parametrize("rows_per_unit", [1, 3, 7, 50])
@pytest.mark.parametrize("row_group", [2, 10, 100])
def test_all_rows_come_once_in_order_under_their_numbers(
    tmp_path: Path, write: Write, rows_per_unit: int, row_group: int
) -> None:
    for name, rows in (("a", 23), ("b", 1), ("c", 40)):
        data = {"image": [f"{name}{row}".encode() for row in range(rows)]}
        write(f"{name}.parquet", data, row_group_size=row_group)
    table = pa.concat_tables(read(tmp_path, rows_per_unit))
    expected = [
        (o << 32 | r, f"{n}{r}".encode())
        for o, (n, rows) in enumerate((("a", 23), ("b", 1), ("c", 40)))
        for r in range(rows)
    ]
    assert list(zip(table["row"].to_pylist(), table["image"].to_pylist(), strict=True)) == expected


def test_a_row_group_cut_into_units_is_scanned_once(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.parquet", {"image": [b"x"] * 100, "caption": ["a"] * 100}, row_group_size=100)
    scans: list[list[int]] = []

    class Counting(pq.ParquetFile):
        def iter_batches(self, batch_size: int, row_groups: list[int], *rest: Any, **options: Any) -> Any:
            scans.append(row_groups)
            return super().iter_batches(batch_size, row_groups, *rest, **options)

    monkeypatch.setattr("clipmill.source.reading.pq.ParquetFile", Counting)
    read(tmp_path, 9)
    assert scans == [[0]]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]
)
def test_bytes_of_any_binary_type_come_through(tmp_path: Path, write: Write, kind: pa.DataType) -> None:
    plain = pa.array([b"one", None, b""], pa.binary())
    column = plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind)
    write("a.parquet", pa.table({"image": column}))
    rows = rows_of(tmp_path)
    assert [row["image"] for row in rows] == [b"one", None, b""]
    assert all(row["has_image_column"] for row in rows)


def test_structs_give_bytes_and_path_and_a_null_struct_gives_neither(tmp_path: Path, write: Write) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": b"x", "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}, None]
    write("a.parquet", pa.table({"image": pa.array(values, kind)}))
    assert [(row["image"], row["image_path"]) for row in rows_of(tmp_path)] == [
        (b"x", "x.jpg"),
        (None, "y.jpg"),
        (None, None),
    ]


def test_string_images_are_paths(tmp_path: Path, write: Write) -> None:
    write("a.parquet", {"image_path": ["p/x.jpg", None]})
    assert [(row["image"], row["image_path"]) for row in rows_of(tmp_path)] == [(None, "p/x.jpg"), (None, None)]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string_view())])
def test_caption_lists_keep_their_nulls_and_empty_ones(tmp_path: Path, write: Write, kind: pa.DataType) -> None:
    values = [["a", "b"], [], None, ["", None, " "]]
    write("a.parquet", pa.table({"captions": pa.array(values, pa.list_(pa.string())).cast(kind)}))
    rows = rows_of(tmp_path)
    assert [row["captions"] for row in rows] == values
    assert not any(row["has_image_column"] for row in rows)


def test_single_captions_become_lists_of_one(tmp_path: Path, write: Write) -> None:
    write("a.parquet", {"caption": pa.array(["a", None, ""]).dictionary_encode()})
    assert [row["captions"] for row in rows_of(tmp_path)] == [["a"], [None], [""]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7, None, 2**60], ["7", "a.parquet:1", str(2**60)]),
        (["x", "x", None], ["x", "x", "a.parquet:2"]),
    ],
)
def test_ids_become_text_and_missing_ones_are_derived(
    tmp_path: Path, write: Write, values: list[Any], expected: list[str]
) -> None:
    write("a.parquet", {"image": [b""] * 3, "id": values})
    assert [row["id"] for row in rows_of(tmp_path)] == expected


def test_files_with_different_columns_are_told_apart(tmp_path: Path, write: Write) -> None:
    write("a.parquet", {"image": [b"x"], "score": pa.array([1], pa.int8())})
    write("b.parquet", {"caption": ["hello"], "score": [2.5]})
    first, second = rows_of(tmp_path)
    assert (first["has_image_column"], first["captions"], first["kept:score"]) == (True, None, 1.0)
    assert (second["has_image_column"], second["image"], second["captions"], second["kept:score"]) == (
        False,
        None,
        ["hello"],
        2.5,
    )


def test_only_the_columns_needed_are_in_the_table(tmp_path: Path, write: Write) -> None:
    write("a.parquet", {"image": [b"x"], "a": [1], "b": [2], "width": [3]})
    (row,) = rows_of(tmp_path, keep_columns=("b", "width"))
    assert {"kept:b", "kept:source_width"} < set(row)
    assert "kept:a" not in row


def test_a_kept_column_with_the_name_of_a_unit_column_is_not_mistaken_for_it(tmp_path: Path, write: Write) -> None:
    write("a.parquet", {"image": [b"x"], "text": ["right"], "captions": ["other"], "image_path": ["p"]})
    (row,) = rows_of(tmp_path, caption_column="text")
    assert (row["captions"], row["kept:captions"]) == (["right"], "other")
    assert (row["image_path"], row["kept:image_path"]) == (None, "p")


def test_a_file_that_changes_after_it_was_listed_is_named(tmp_path: Path, write: Write) -> None:
    path = write("a.parquet", {"image": [b"x"] * 10})
    inputs = find_inputs(str(tmp_path))
    columns = choose_columns(inputs)
    write("a.parquet", {"image": [b"xyz"] * 100})
    with pytest.raises(RunFailed, match=r"a\.parquet: could not be read near row 0: its size changed"):
        list(read_units(list(plan_units(inputs, 5)), inputs, columns))
    path.unlink()
    with pytest.raises(RunFailed, match=r"a\.parquet"):
        list(read_units(list(plan_units(inputs, 5)), inputs, columns))


def test_damaged_pages_are_told_with_file_and_row(tmp_path: Path, write: Write) -> None:
    path = write(
        "a.parquet", {"caption": [f"caption {i}" for i in range(2000)]}, row_group_size=1000, compression="zstd"
    )
    data = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = second.dictionary_page_offset or second.data_page_offset
    data[start : start + second.total_compressed_size] = b"\xaa" * second.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(RunFailed, match=r"a\.parquet: could not be read near row 1000"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["url", "image"])
def test_web_addresses_are_refused_with_advice(tmp_path: Path, write: Write, name: str) -> None:
    write("a.parquet", {name: [None, "https://example.org/a.jpg"], "caption": ["a", "b"]})
    inputs = find_inputs(str(tmp_path))
    with pytest.raises(UserError, match="img2dataset"):
        refuse_urls(inputs, choose_columns(inputs))


def test_paths_and_object_addresses_are_not_web_addresses(tmp_path: Path, write: Write) -> None:
    write("a.parquet", {"url": [None, "s3://photos/a.jpg"]})
    inputs = find_inputs(str(tmp_path))
    refuse_urls(inputs, choose_columns(inputs))


def as_strings(values: list[Any]) -> pa.Array:
    """A string array with these bytes, checked by nobody, as some writers leave it."""
    plain = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(plain), plain.buffers()[1], plain.buffers()[2], plain.buffers()[0])


@pytest.mark.parametrize("as_lists", [False, True])
def test_bytes_that_are_not_utf_8_become_replacement_characters(tmp_path: Path, write: Write, as_lists: bool) -> None:
    captions = as_strings([b"a caf\xe9", "a café".encode(), None])
    listed = pa.ListArray.from_arrays(pa.array([0, None, 2, 3], pa.int32()), captions) if as_lists else captions
    columns = {
        "image_path": as_strings([b"\xff.jpg", b"b.jpg", None]),
        "caption": listed,
        "id": as_strings([b"\xc3", b"two", None]),
        "label": as_strings([b"x", b"\x80y", None]).dictionary_encode(),
    }
    write("a.parquet", columns)
    rows = rows_of(tmp_path)
    assert [row["image_path"] for row in rows] == ["\ufffd.jpg", "b.jpg", None]
    assert [row["id"] for row in rows] == ["\ufffd", "two", "a.parquet:2"]
    assert [row["kept:label"] for row in rows] == ["x", "\ufffdy", None]
    wanted = [["a caf\ufffd", "a café"], None, [None]] if as_lists else [["a caf\ufffd"], ["a café"], [None]]
    assert [row["captions"] for row in rows] == wanted
    inputs = find_inputs(str(tmp_path))
    refuse_urls(inputs, choose_columns(inputs))


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (pa.int64(), pa.uint64(), 2**64 - 1),
        (pa.float64(), pa.int64(), 2**53 + 1),
        (pa.float64(), pa.uint64(), 2**63 + 1),
        (pa.timestamp("ns"), pa.timestamp("s"), datetime(9999, 12, 31)),
        (pa.timestamp("ns"), pa.timestamp("ms"), datetime(1, 1, 1)),
        (pa.duration("ns"), pa.duration("s"), timedelta(days=200_000)),
    ],
    ids=str,
)
def test_a_value_that_the_type_of_all_files_cannot_hold_is_refused_by_file_and_column(
    tmp_path: Path, write: Write, first: pa.DataType, second: pa.DataType, value: object
) -> None:
    write("a.parquet", pa.table({"caption": ["x"], "price": pa.array([None], first)}))
    path = write("b.parquet", pa.table({"caption": ["y"], "price": pa.array([value], second)}))
    with pytest.raises(UserError, match=f"{path}: column 'price'.*--keep-columns"):
        rows_of(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (pa.int64(), pa.uint64(), 2**63 - 1),
        (pa.float64(), pa.int32(), -(2**31)),
        (pa.timestamp("ns"), pa.timestamp("s"), datetime(2026, 1, 2)),
        (pa.decimal128(20, 8), pa.decimal128(5, 2), Decimal("123.45")),
        (pa.int64(), pa.decimal128(5, 2), Decimal("-1.10")),
    ],
    ids=str,
)
def test_a_value_that_the_type_of_all_files_holds_is_kept(
    tmp_path: Path, write: Write, first: pa.DataType, second: pa.DataType, value: object
) -> None:
    write("a.parquet", pa.table({"caption": ["x"], "price": pa.array([None], first)}))
    write("b.parquet", pa.table({"caption": ["y"], "price": pa.array([value], second)}))
    assert [row["kept:price"] for row in rows_of(tmp_path)] == [None, value]


@pytest.mark.parametrize("view", [pa.list_view, pa.large_list_view])
@pytest.mark.parametrize("of", [pa.string(), pa.string_view(), pa.large_string()])
def test_captions_in_list_views_are_captions(tmp_path: Path, view: Any, of: pa.DataType) -> None:
    lists = [["a dog", "a cat"], None, [], ["", None], ["a bird"]]
    plain = pa.array(lists, pa.list_(of))
    offsets = [0, 2, 2, 2, 4]
    sizes = [2, 0, 0, 2, 1]
    kind = pa.int64() if view is pa.large_list_view else pa.int32()
    of_views = pa.LargeListViewArray if view is pa.large_list_view else pa.ListViewArray
    views = of_views.from_arrays(
        pa.array(offsets, kind), pa.array(sizes, kind), plain.values, mask=pa.array([False, True, False, False, False])
    )
    file = InputFile(0, "x.parquet", 0, "", 5, (5,), (5,), pa.schema([("caption", views.type)]))
    columns = choose_columns([file])
    assert columns.caption_is_list
    batch = pa.RecordBatch.from_arrays([views], names=["caption"])
    table = reading._normalised(batch, file, 0, columns, reading.unit_schema(columns))
    assert table.column("captions").to_pylist() == lists
    table.validate(full=True)


def test_whole_ids_that_a_missing_one_turned_into_fractions_are_whole(tmp_path: Path, write: Write) -> None:
    write("a.parquet", pa.table({"caption": ["x", "y", "z"], "id": pa.array([7.0, None, float("nan")])}))
    write("b.parquet", pa.table({"caption": ["x"], "id": pa.array([8], pa.int64())}))
    assert [row["id"] for row in rows_of(tmp_path)] == ["7", "a.parquet:1", "a.parquet:2", "8"]


@pytest.mark.parametrize("value", [0.5, float("inf")])
def test_ids_that_are_fractions_are_refused(tmp_path: Path, write: Write, value: float) -> None:
    write("a.parquet", pa.table({"caption": ["x", "y"], "id": pa.array([1.0, value])}))
    with pytest.raises(UserError, match=r"fraction.*--id-column"):
        rows_of(tmp_path)


def test_a_local_file_that_is_overwritten_while_it_is_read_ends_the_reading(tmp_path: Path, write: Write) -> None:
    rows = 4000
    path = write("a.parquet", {"caption": ["a"] * rows}, row_group_size=500)
    before = path.read_bytes()
    inputs = find_inputs(str(tmp_path))
    units = plan_units(inputs, 500)
    tables = read_units(units, inputs, choose_columns(inputs))
    seen = next(tables).num_rows
    path.write_bytes(before.replace(b"a", b"b"))
    with pytest.raises(RunFailed, match="overwritten while it was being read"):
        seen += sum(table.num_rows for table in tables)
    assert 500 <= seen <= 1000  # what was read before, and not one row after
