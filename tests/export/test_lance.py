"""Embeddings as a Lance dataset: all rows by one version, and none by a write that was interrupted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill.core.errors import OutputDiffers, UserError
from clipmill.export import rows as rows_module
from clipmill.export.lance import write_lance
from clipmill.export.rows import SOURCE, Rows
from clipmill_jobs.__main__ import main
from faulty_s3 import FaultyS3
from wholesome import Source, write_whole_embeddings

lance = pytest.importorskip("lance", reason="pylance is not installed")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_embeddings(tmp_path_factory.mktemp("whole"))


def published(dataset: Path, part: str) -> pa.Table:
    listed = pq.read_table(dataset / "shards.parquet").to_pylist()
    return pa.concat_tables(pq.read_table(dataset / file["path"]) for file in listed if file["part"] == part)


@pytest.mark.parametrize("part", ["images", "captions"])
def test_every_row_and_column_is_there_in_order(dataset: Path, tmp_path: Path, part: str) -> None:
    seen: list[int] = []
    made = write_lance(Rows.open(str(dataset), part), str(tmp_path / "t.lance"), on_read=seen.append)
    expected = published(dataset, part)
    table = lance.dataset(str(tmp_path / "t.lance")).to_table()
    assert made.rows == sum(seen) == expected.num_rows
    assert table.column_names == expected.column_names
    for name in expected.column_names:
        if name != "embedding":
            assert table.column(name).to_pylist() == expected.column(name).to_pylist(), name
    assert table.schema.field("embedding").type.value_type == pa.float16()
    one, other = (np.stack(side.column("embedding").to_pylist()) for side in (table, expected))
    np.testing.assert_array_equal(one, other)


def test_run_again_it_changes_nothing(dataset: Path, tmp_path: Path) -> None:
    rows = Rows.open(str(dataset), "images")
    first = write_lance(rows, str(tmp_path / "t.lance"))
    again = write_lance(rows, str(tmp_path / "t.lance"))
    assert (first.already, again.already) == (False, True)
    assert again.version == first.version
    assert len(lance.dataset(str(tmp_path / "t.lance")).versions()) == 1


def test_what_was_interrupted_is_not_seen_and_is_written_by_the_next_run(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_BATCH_ROWS", 16)
    rows, read = Rows.open(str(dataset), "images"), 0

    def interrupt(count: int) -> None:
        nonlocal read
        read += count
        if read > 40:
            raise KeyboardInterrupt

    with pytest.raises(BaseException, match=r".*"):
        write_lance(rows, str(tmp_path / "t.lance"), on_read=interrupt)
    with pytest.raises(ValueError, match="not found"):
        lance.dataset(str(tmp_path / "t.lance"))
    made = write_lance(rows, str(tmp_path / "t.lance"))
    assert (made.already, made.rows) == (False, rows.count)


def test_other_embeddings_are_refused_and_replaced_where_that_is_asked_for(dataset: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "t.lance")
    write_lance(Rows.open(str(dataset), "images"), place)
    other = Rows.open(str(write_whole_embeddings(tmp_path / "other", [Source("z", 30)])), "images")
    with pytest.raises(OutputDiffers, match="of other embeddings"):
        write_lance(other, place)
    made = write_lance(other, place, overwrite=True)
    table = lance.dataset(place)
    assert (made.rows, table.count_rows()) == (other.count, other.count)
    assert table.schema.metadata[SOURCE.encode()].decode() == other.key
    assert lance.dataset(place, version=1).count_rows() == Rows.open(str(dataset), "images").count


def test_a_table_of_others_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"a": [1]}), str(tmp_path / "t.lance"))
    with pytest.raises(OutputDiffers, match="that clipmill did not write"):
        write_lance(Rows.open(str(dataset), "images"), str(tmp_path / "t.lance"))
    assert lance.dataset(str(tmp_path / "t.lance")).to_table().to_pydict() == {"a": [1]}


def test_a_part_that_is_not_there_is_told(dataset: Path) -> None:
    with pytest.raises(
        UserError, match=r"--gallery videos: .* has none; it has images, captions: give --gallery images"
    ):
        Rows.open(str(dataset), "videos")


def test_the_command_says_what_is_there(dataset: Path, tmp_path: Path) -> None:
    arguments = ["export", "lance", "--embeddings", str(dataset), "--output", str(tmp_path / "t.lance")]
    first, again = (CliRunner().invoke(main, arguments) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "is already complete" in again.output
    assert "is already complete" not in first.output
    mistaken = CliRunner().invoke(main, [*arguments, "--gallery", "audio"])
    assert mistaken.exit_code == 2
    assert "give --gallery images" in mistaken.output


def test_it_is_written_to_s3_too(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyS3() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        rows = Rows.open(str(dataset), "images")
        first, again = (write_lance(rows, "s3://bucket/tables/t.lance") for _ in range(2))
        assert (first.rows, first.already, again.already) == (rows.count, False, True)


def test_a_folder_of_something_else_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("manifest.json", "data/part.parquet"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="no Lance dataset"):
        write_lance(Rows.open(str(dataset), "images"), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "manifest.json"]


def test_rows_that_others_added_or_deleted_are_not_taken_for_ours(dataset: Path, tmp_path: Path) -> None:
    rows = Rows.open(str(dataset), "images")
    write_lance(rows, str(tmp_path / "t.lance"))
    lance.dataset(str(tmp_path / "t.lance")).delete("true")
    with pytest.raises(OutputDiffers, match="rows were changed since"):
        write_lance(rows, str(tmp_path / "t.lance"))
    assert write_lance(rows, str(tmp_path / "t.lance"), overwrite=True).rows == rows.count
