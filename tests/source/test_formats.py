"""Saved datasets and archives are read where they lie: the rows that their own libraries give, numbered alike on every run."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datasets
from clipmill.core.errors import RunFailed, UserError
from clipmill.source.columns import Columns, choose_columns
from clipmill.source.cutting import plan_units
from clipmill.source.footers import save_footers
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.reading import read_units
from clipmill.storage import resolve
from pictures import noisy

ROWS = 150


def read(uri: Path | str, rows_per_unit: int = 40, limit: int | None = None) -> list[dict[str, Any]]:
    """All rows, unit by unit."""
    inputs = find_inputs(str(uri))
    return [
        row for table in units_of(inputs, choose_columns(inputs), rows_per_unit, limit) for row in table.to_pylist()
    ]


def units_of(inputs: list[InputFile], columns: Columns, rows: int, limit: int | None = None) -> list[pa.Table]:
    return list(read_units(list(plan_units(inputs, rows, limit)), inputs, columns))


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [noisy(12, 9, seed) for seed in range(ROWS)]


@pytest.fixture(scope="module")
def saved(pictures: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Hugging Face's library saves: pictures, lists of captions, a class label, in several batches of two files."""
    folder = tmp_path_factory.mktemp("saved")
    rows = {
        "image": [{"bytes": data, "path": f"{number}.png"} for number, data in enumerate(pictures)],
        "caption": [[f"caption {number}", "another"][: number % 3] for number in range(ROWS)],
        "label": [number % 4 for number in range(ROWS)],
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.List(datasets.Value("string")),
            "label": datasets.ClassLabel(names=list("abcd")),
        }
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder / "set"), num_shards=2)
    return folder / "set"


def test_a_saved_dataset_has_the_rows_that_its_library_gives(saved: Path, pictures: list[bytes]) -> None:
    theirs = datasets.load_from_disk(str(saved)).cast_column("image", datasets.Image(decode=False))
    rows = read(saved)
    assert [row["image"] for row in rows] == [row["image"]["bytes"] for row in theirs] == pictures
    assert [row["captions"] for row in rows] == [list(row["caption"]) for row in theirs]
    assert [row["kept:label"] for row in rows] == [row["label"] for row in theirs]


def test_rows_are_numbered_by_file_and_place_whatever_the_units(saved: Path) -> None:
    files = find_inputs(str(saved))
    assert [file.rows for file in files] == [ROWS // 2, ROWS // 2]
    expected = [(file << 32) + row for file in (0, 1) for row in range(ROWS // 2)]
    for size in (1, 7, 1000):
        assert [row["row"] for row in read(saved, size)] == expected
    assert [row["row"] for row in read(saved, 50, limit=80)] == expected[:80]


def test_files_that_the_dataset_does_not_list_are_not_read(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    shutil.copy(next(folder.glob("data-*.arrow")), folder / "cache-0a1b.arrow")
    assert len(read(folder)) == ROWS
    (folder / "state.json").write_text("{}")
    with pytest.raises(UserError, match="save_to_disk"):
        find_inputs(str(folder))


def test_splits_of_a_saved_dataset_are_read_together_or_one_by_one(saved: Path, tmp_path: Path) -> None:
    whole = datasets.load_from_disk(str(saved))
    split = datasets.DatasetDict({"train": whole.select(range(100)), "test": whole.select(range(100, ROWS))})
    split.save_to_disk(str(tmp_path / "splits"))
    assert len(read(tmp_path / "splits")) == ROWS
    assert len(read(tmp_path / "splits" / "test")) == 50


def arrow(folder: Path, make: Callable[..., Any], **options: Any) -> Path:
    """An Arrow file of three batches, as a stream or as a file."""
    table = pa.table({"id": [f"i{row}" for row in range(30)], "caption": [f"text {row}" for row in range(30)]})
    with make(str(folder / "a.arrow"), table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=10)
    return folder / "a.arrow"


@pytest.mark.parametrize("make", [pa.ipc.new_stream, pa.ipc.new_file])
def test_streams_and_files_of_arrow_are_both_read_from_any_batch(make: Callable[..., Any], tmp_path: Path) -> None:
    (file,) = find_inputs(str(arrow(tmp_path, make)))
    assert file.row_group_rows == (10, 10, 10)
    columns = choose_columns([file])
    for first in (0, 12, 25):
        units = [unit for unit in plan_units([file], 5) if unit.spans[0].start >= first]
        rows = [row for table in read_units(units, [file], columns) for row in table.to_pylist()]
        assert [row["id"] for row in rows] == [f"i{row}" for row in range(rows[0]["row"], 30)]


def test_compressed_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compressed"):
        find_inputs(str(arrow(tmp_path, pa.ipc.new_stream, options=pa.ipc.IpcWriteOptions(compression="lz4"))))


def test_every_way_of_cutting_an_arrow_file_short_is_told(tmp_path: Path) -> None:
    data = arrow(tmp_path, pa.ipc.new_stream).read_bytes()
    whole = len(data) - 8  # the end of a stream may be left out
    for length in [*range(0, whole, 97), whole - 1]:
        (tmp_path / "a.arrow").write_bytes(data[:length])
        with suppress(UserError):
            (found,) = find_inputs(str(tmp_path / "a.arrow"))
            assert found.rows in (10, 20)  # cut between two batches


def test_damaged_bytes_end_in_a_sentence_and_not_in_a_crash(tmp_path: Path) -> None:
    data = arrow(tmp_path, pa.ipc.new_stream).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        spoiled = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            spoiled[at] = rng.integers(0, 256)
        (tmp_path / "a.arrow").write_bytes(bytes(spoiled))
        with suppress(UserError, RunFailed):
            read(tmp_path / "a.arrow")


def tar(path: Path, samples: list[dict[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for number, sample in enumerate(samples):
            for extension, data in sample.items():
                member = tarfile.TarInfo(f"part/{number:05d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def samples_of(pictures: list[bytes]) -> list[dict[str, bytes]]:
    """Pictures with a text; some without a picture, some without a text; fields of all types."""
    made = []
    for number, data in enumerate(pictures):
        document = {"year": 2000 + number, "url": f"http://{number}", "score": number / 2, "nested": {"a": 1}}
        sample = {
            "png": data,
            "txt": b"caption %d\n" % number,
            "json": json.dumps(document).encode(),
            "cls": b"%d" % (number % 3),
        }
        made.append({name: part for name, part in sample.items() if not (name == "txt" and number % 5 == 4)})
    made[7].pop("png")
    return made


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_an_archive_has_a_row_for_each_sample(pictures: list[bytes], tmp_path: Path, name: str, mode: str) -> None:
    tar(tmp_path / name, samples_of(pictures), mode)
    rows = read(tmp_path)
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert [row["id"] for row in rows] == [f"part/{number:05d}" for number in range(ROWS)]
    assert [row["image"] for row in rows] == [None if number == 7 else data for number, data in enumerate(pictures)]
    assert rows[3]["captions"] == ["caption 3"]
    assert not rows[4]["captions"]
    assert (rows[9]["kept:year"], rows[9]["kept:score"], rows[9]["kept:source_url"]) == (2009, 4.5, "http://9")
    assert rows[10]["kept:label"] == "1"


def test_units_of_an_archive_begin_where_they_are_cut(pictures: list[bytes], tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", samples_of(pictures))
    (file,) = find_inputs(str(tmp_path))
    assert file.row_group_rows == (64, 64, 22)
    units = [unit for unit in plan_units([file], 10) if unit.spans[0].start >= 128]
    rows = [row for table in read_units(units, [file], choose_columns([file])) for row in table.to_pylist()]
    assert [row["row"] for row in rows] == list(range(128, ROWS))
    assert [row["image"] for row in rows] == pictures[128:]


def test_captions_may_stand_in_the_json(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [{"json": b'{"caption": ["one", "two"]}'}, {"json": b'{"caption": "three"}'}])
    assert [row["captions"] for row in read(tmp_path)] == [["one", "two"], ["three"]]


def test_an_archive_that_was_cut_short_or_changed_is_told(pictures: list[bytes], tmp_path: Path) -> None:
    file = tar(tmp_path / "a.tar", samples_of(pictures))
    inputs = find_inputs(str(file))
    columns = choose_columns(inputs)
    file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(RunFailed, match="its size changed"):
        units_of(inputs, columns, 10)
    with pytest.raises(UserError, match=r"a\.tar: it is not a tar archive, or was cut short"):
        find_inputs(str(file))
    file.write_bytes(b"no archive" * 500)
    with pytest.raises(UserError, match="not a tar archive"):
        find_inputs(str(file))


def test_on_s3_both_kinds_are_read_as_on_a_disk(
    bucket: Any, saved: Path, pictures: list[bytes], tmp_path: Path
) -> None:
    tar(tmp_path / "a.tar", samples_of(pictures))
    bucket.upload_file(str(tmp_path / "a.tar"), "photos", "archives/a.tar")
    for file in saved.iterdir():
        bucket.upload_file(str(file), "photos", f"saved/{file.name}")
    for there, here in (("s3://photos/archives", tmp_path), ("s3://photos/saved", saved)):
        assert read(there) == read(here)


def test_what_is_known_of_a_file_is_kept_between_starts(pictures: list[bytes], tmp_path: Path) -> None:
    for number in range(16):
        tar(tmp_path / f"{number:02d}.tar", samples_of(pictures[:10]))
    inputs = find_inputs(str(tmp_path))
    save_footers(resolve(tmp_path / "_kept.arrow"), inputs)
    assert find_inputs(str(tmp_path), resolve(tmp_path / "_kept.arrow")) == inputs


def test_a_folder_says_what_of_it_is_not_read(
    pictures: list[bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "one.png").write_bytes(pictures[0])
    (tmp_path / "metadata.csv").write_text("file_name,caption\none.png,a thing\n")
    assert [file.path for file in find_inputs(str(tmp_path))] == [f"{tmp_path}/*"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"name it: {tmp_path}/metadata.csv" in told
    caplog.clear()
    find_inputs(str(tmp_path / "metadata.csv"))
    assert not caplog.records
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "a.parquet")
    find_inputs(str(tmp_path))
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "its 1 Parquet files are read, and its 1 pictures are not" in said
