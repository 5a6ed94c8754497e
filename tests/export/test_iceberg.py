"""Embeddings as rows of an Iceberg table: one snapshot, however often the command is run."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from clipmill.core.errors import OutputDiffers, UserError
from clipmill.export import iceberg
from clipmill.export.iceberg import IcebergTable, commit_iceberg
from clipmill.export.rows import SOURCE, Rows
from clipmill_jobs.__main__ import main
from clustered import write_embeddings
from export.test_lance import published
from wholesome import Source, write_whole_embeddings

catalogs = pytest.importorskip("pyiceberg.catalog", reason="pyiceberg is not installed")
pytest.importorskip("sqlalchemy", reason="pyiceberg[sql-sqlite] is not installed")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_embeddings(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def target(tmp_path: Path) -> IcebergTable:
    (tmp_path / "warehouse").mkdir()
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path / 'catalog.db'}",
        "warehouse": f"file://{tmp_path / 'warehouse'}",
    }
    return IcebergTable("local", "photos.images", properties)


def table_of(target: IcebergTable) -> object:
    return catalogs.load_catalog(target.catalog, **target.properties).load_table(target.name)


def test_every_row_is_there_with_vectors_as_lists_of_floats(dataset: Path, target: IcebergTable) -> None:
    made = commit_iceberg(Rows.open(str(dataset), "images"), target)
    expected, found = published(dataset, "images"), table_of(target).scan().to_arrow().sort_by("row")
    assert made.rows == expected.num_rows == found.num_rows
    assert set(found.column_names) == set(expected.column_names)
    for name in expected.column_names:
        if name != "embedding":
            assert found.column(name).to_pylist() == expected.column(name).to_pylist(), name
    assert found.schema.field("embedding").type.value_type == pa.float32()
    one, other = (np.array(side.column("embedding").to_pylist(), np.float32) for side in (found, expected))
    np.testing.assert_array_equal(one, other)


def test_run_twice_there_is_one_snapshot(dataset: Path, target: IcebergTable) -> None:
    rows = Rows.open(str(dataset), "images")
    first, again = commit_iceberg(rows, target), commit_iceberg(rows, target)
    assert (first.already, again.already) == (False, True)
    assert (again.version, again.rows) == (first.version, first.rows)
    snapshots = table_of(target).metadata.snapshots
    assert [one.summary.additional_properties[SOURCE] for one in snapshots] == [rows.key]


def test_what_was_interrupted_has_added_nothing(
    dataset: Path, target: IcebergTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, real, written = Rows.open(str(dataset), "images"), iceberg._write, []

    def interrupted(*arguments: object) -> str:
        if written:
            raise KeyboardInterrupt
        written.append(real(*arguments))
        return written[-1]

    monkeypatch.setattr(iceberg, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit_iceberg(rows, target)
    assert table_of(target).current_snapshot() is None
    monkeypatch.setattr(iceberg, "_write", real)
    assert commit_iceberg(rows, target).rows == rows.count
    files = [
        name for _, _, names in os.walk(Path(target.properties["warehouse"].removeprefix("file://"))) for name in names
    ]
    assert sum(name.endswith(".parquet") for name in files) == len(rows.shards), "what was written before is used again"


def test_other_embeddings_are_refused_and_replaced_where_that_is_asked_for(
    dataset: Path, target: IcebergTable, tmp_path: Path
) -> None:
    first = Rows.open(str(dataset), "images")
    commit_iceberg(first, target)
    other = Rows.open(str(write_whole_embeddings(tmp_path / "other", [Source("z", 30)])), "images")
    with pytest.raises(OutputDiffers, match="of other embeddings"):
        commit_iceberg(other, target)
    assert commit_iceberg(other, target, overwrite=True).rows == other.count
    ids = table_of(target).scan().to_arrow().column("id").to_pylist()
    assert sorted(ids) == sorted(published(Path(other.dataset.location.path), "images").column("id").to_pylist())


def test_rows_of_others_are_left_alone(dataset: Path, target: IcebergTable) -> None:
    catalog = catalogs.load_catalog(target.catalog, **target.properties)
    catalog.create_namespace("photos")
    catalog.create_table(target.name, pa.schema([("a", pa.int64())])).append(pa.table({"a": [1]}))
    with pytest.raises(UserError, match="has the columns"):
        commit_iceberg(Rows.open(str(dataset), "images"), target, overwrite=True)
    assert table_of(target).scan().to_arrow().to_pydict() == {"a": [1]}


def test_mistakes_are_told_in_a_sentence(dataset: Path, target: IcebergTable) -> None:
    properties = [word for key, value in target.properties.items() for word in ("--property", f"{key}={value}")]
    command = ["export", "iceberg", "--embeddings", str(dataset)]
    for arguments, told in (
        ([*command, "--table", "images", *properties], "name the namespace too"),
        ([*command, "--table", "a.b", "--catalog", "nowhere"], "--catalog nowhere cannot be used"),
        ([*command, "--table", "a.b", "--property", "type"], "give KEY=VALUE"),
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2, done.output
        assert told in done.output
    done = CliRunner().invoke(main, [*command, "--table", "photos.images", *properties, "--json"])
    assert done.exit_code == 0, done.output
    assert '"already_complete": false' in done.output


KEPT = {
    "seen": pa.array([1, 2, 3], pa.timestamp("ns")),
    "at": pa.array([1, 2, 3], pa.time32("s")),
    "count": pa.array([1, 2, 250], pa.uint8()),
    "half": pa.array([0.5, 1.5, 2.5], pa.float16()),
}


def test_columns_that_iceberg_has_not_become_such_as_it_has(tmp_path: Path, target: IcebergTable) -> None:
    place = write_embeddings(tmp_path / "e", np.eye(3, 8, dtype=np.float16), np.eye(1, 8, dtype=np.float16), kept=KEPT)
    commit_iceberg(Rows.open(str(place), "images"), target)
    found = table_of(target).scan().to_arrow().sort_by("row")
    assert found.column("count").to_pylist() == [1, 2, 250]
    assert found.column("half").to_pylist() == [0.5, 1.5, 2.5]
    assert found.column("seen").type == pa.timestamp("us")


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([1, 2, 3], pa.duration("s")), "column odd is duration"),
        (pa.array([1, 2, 2**63 + 5], pa.uint64()), "column odd: Integer value"),
    ],
)
def test_a_value_that_iceberg_cannot_hold_is_told(
    tmp_path: Path, target: IcebergTable, column: pa.Array, told: str
) -> None:
    place = write_embeddings(
        tmp_path / "e", np.eye(3, 8, dtype=np.float16), np.eye(1, 8, dtype=np.float16), kept={"odd": column}
    )
    with pytest.raises(UserError, match=told):
        commit_iceberg(Rows.open(str(place), "images"), target)


def test_rows_that_others_added_are_told_and_replaced_where_that_is_asked_for(
    dataset: Path, target: IcebergTable
) -> None:
    rows = Rows.open(str(dataset), "images")
    commit_iceberg(rows, target)
    table = table_of(target)
    table.append(table.scan().to_arrow().slice(0, 3))
    with pytest.raises(OutputDiffers, match="that clipmill did not write"):
        commit_iceberg(rows, target)
    assert commit_iceberg(rows, target, overwrite=True).rows == rows.count
    ids = table_of(target).scan().to_arrow().column("id").to_pylist()
    assert sorted(ids) == sorted(published(dataset, "images").column("id").to_pylist()), "no row is lost or there twice"
    assert commit_iceberg(rows, target).already
