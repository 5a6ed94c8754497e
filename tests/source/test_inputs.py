"""A file, folder, glob or prefix becomes the Parquet files it stands for, or one clear sentence."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import UserError
from clipmill.source import inputs
from clipmill.source.inputs import find_inputs

Write = Callable[..., Path]
ONE_ROW = {"caption": ["a dog"]}


def names(uri: object, folder: Path) -> list[str]:
    return [file.path.removeprefix(f"{folder}/") for file in find_inputs(str(uri))]


def test_a_folder_gives_its_parquet_in_byte_order_and_passes_over_hidden_names(tmp_path: Path, write: Write) -> None:
    for name in (
        "b.parquet",
        "B.parquet",
        "a/é.parquet",
        "a/z.parq",
        ".cache/x.parquet",
        "_tmp/x.parquet",
        "_x.parquet",
    ):
        write(name, ONE_ROW)
    (tmp_path / "README.md").write_text("hello")
    found = find_inputs(str(tmp_path))
    assert [file.path for file in found] == [
        f"{tmp_path}/{n}" for n in ("B.parquet", "a/z.parq", "a/é.parquet", "b.parquet")
    ]
    assert [file.ordinal for file in found] == [0, 1, 2, 3]


def test_a_file_knows_its_size_version_and_row_groups(write: Write) -> None:
    path = write("x.parquet", {"caption": [f"caption {i}" for i in range(7)]}, row_group_size=3)
    (file,) = find_inputs(str(path))
    assert (file.rows, file.row_group_rows) == (7, (3, 3, 1))
    assert file.size == path.stat().st_size
    assert file.etag == str(path.stat().st_mtime_ns)
    assert file.row_group_bytes[0] > file.row_group_bytes[2] > 0


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("train-*.parquet", ["train-0.parquet", "train-1.parquet"]),
        ("*/train-?.parquet", ["deep/train-2.parquet"]),
        ("**/train-[12].parquet", ["deep/train-2.parquet", "train-1.parquet"]),
        ("train-", ["train-0.parquet", "train-1.parquet"]),
        ("train-0.parquet", ["train-0.parquet"]),
        ("deep/", ["deep/train-2.parquet"]),
    ],
)
def test_globs_and_prefixes_choose_files(tmp_path: Path, write: Write, pattern: str, expected: list[str]) -> None:
    for name in ("train-0.parquet", "train-1.parquet", "test-0.parquet", "deep/train-2.parquet"):
        write(name, ONE_ROW)
    assert names(f"{tmp_path}/{pattern}", tmp_path) == expected


def test_a_relative_path_means_the_same_files_from_anywhere(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("data/x.parquet", ONE_ROW)
    monkeypatch.chdir(tmp_path)
    assert find_inputs("data") == find_inputs("data/*.parquet") == find_inputs(f"{tmp_path}/data/x.parquet")


def test_a_name_with_wildcard_signs_that_exists_is_itself(tmp_path: Path, write: Write) -> None:
    write("set [1]/x.parquet", ONE_ROW)
    assert names(tmp_path / "set [1]", tmp_path) == ["set [1]/x.parquet"]


def test_a_file_named_outright_needs_no_ending(write: Write) -> None:
    assert find_inputs(str(write("table.dat", ONE_ROW)))[0].rows == 1


@pytest.mark.parametrize(
    ("files", "uri", "said"),
    [
        ({}, "nowhere", "no such file or folder"),
        ({}, "", "the folder is empty"),
        (
            {"a.csv": b"x", "b.csv": b"y", "c.txt": b""},
            "",
            "a sound or a video among the 3 files here (2 .csv, 1 .txt)",
        ),
        ({"a.csv": b"x"}, "*.parquet", "no file matches"),
        ({"a.parquet": b""}, "", "a.parquet: the file has no bytes"),
        ({"a.csv": b"image,caption"}, "a.csv", "a.csv: there is not one row in this file"),
        ({"a.dat": b"image,caption"}, "a.dat", "a.dat: this is not a Parquet file"),
        ({"a.tar": b"x" * 1024}, "a.tar", "a.tar: it is not a tar archive"),
        ({"a.arrow": b"x" * 1024}, "a.arrow", "a.arrow: this is no Arrow file"),
        ({"a.tsv": b"x"}, "", "name the list itself: /"),
    ],
)
def test_input_that_cannot_be_read_is_told_in_words(
    tmp_path: Path, files: dict[str, bytes], uri: str, said: str
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        find_inputs(f"{tmp_path}/{uri}")
    assert said in str(caught.value)


@pytest.mark.parametrize("kept", [3, 100, -1, -9])
def test_a_parquet_file_cut_short_is_named(tmp_path: Path, write: Write, kept: int) -> None:
    write("whole.parquet", {"caption": ["word"] * 500})
    data = write("cut.parquet", {"caption": ["word"] * 500}).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[:kept])
    with pytest.raises(UserError, match=r"cut\.parquet: .*Parquet"):
        find_inputs(str(tmp_path))


def test_more_files_than_row_numbers_have_room_for_are_refused(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_FILES", 2)
    for number in range(3):
        write(f"{number}.parquet", ONE_ROW)
    with pytest.raises(UserError, match=r"3 files are more than the 2 .* merge them"):
        find_inputs(str(tmp_path))


def test_files_without_a_row_are_told_and_passed_over_beside_others(write: Write, tmp_path: Path) -> None:
    empty = pa.table({"caption": pa.array([], pa.string())})
    write("a.parquet", empty)
    with pytest.raises(UserError, match="not one row"):
        find_inputs(str(tmp_path))
    write("b.parquet", ONE_ROW)
    assert [file.rows for file in find_inputs(str(tmp_path))] == [0, 1]


def test_equal_schemas_are_one_object(write: Write, tmp_path: Path) -> None:
    for number in range(3):
        write(f"{number}.parquet", ONE_ROW)
    assert len({id(file.schema) for file in find_inputs(str(tmp_path))}) == 1


def test_a_bucket_is_read_like_a_folder_with_etags(bucket: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table(ONE_ROW), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    etags = {
        key: bucket.put_object(Bucket="photos", Key=key, Body=data)["ETag"].strip('"')
        for key in ("set/b 1.parquet", "set/a%20.parquet", "set/_x.parquet", "other.parquet")
    }
    for uri in ("s3://photos/set", "s3://photos/set/", "s3://photos/set/*.parquet"):
        found = find_inputs(uri)
        assert [file.path for file in found] == ["s3://photos/set/a%20.parquet", "s3://photos/set/b 1.parquet"]
        assert [file.etag for file in found] == [etags["set/a%20.parquet"], etags["set/b 1.parquet"]]
    assert [file.path for file in find_inputs("s3://photos/oth")] == ["s3://photos/other.parquet"]
    with pytest.raises(UserError, match="no such file or folder"):
        find_inputs("s3://photos/absent/")


@pytest.mark.parametrize("below", ["*", "*/x.parquet", "x.parquet", "deep/*"])
def test_nothing_is_below_a_file(write: Write, below: str) -> None:
    path = write("a.parquet", ONE_ROW)
    with pytest.raises(UserError, match=r"is a file, so|no such file|no file matches"):
        find_inputs(f"{path}/{below}")


def _dangling(folder: Path) -> None:
    (folder / "more.parquet").symlink_to("nowhere.parquet")


def _circle(folder: Path) -> None:
    (folder / "more.parquet").symlink_to("more.parquet")


def _link_to_a_folder_above(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "again").symlink_to(folder)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "more.parquet")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "more.parquet"))


def _name_of_bytes(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/more-\xff.parquet")).write_bytes(b"")


@pytest.mark.parametrize("entry", [_dangling, _circle, _link_to_a_folder_above, _pipe, _socket, _name_of_bytes])
@pytest.mark.parametrize("pattern", ["", "/**/*.parquet"])
def test_an_entry_that_cannot_be_read_stops_the_listing(
    tmp_path: Path, write: Write, entry: Callable[[Path], None], pattern: str
) -> None:
    write("a.parquet", ONE_ROW)
    entry(tmp_path)
    with pytest.raises(UserError, match=r"more|again"):
        find_inputs(f"{tmp_path}{pattern}")


def test_entries_that_are_not_asked_for_stop_nothing(tmp_path: Path, write: Write) -> None:
    write("a.parquet", ONE_ROW)
    (tmp_path / ".#lock").symlink_to("user@host:1")
    (tmp_path / "notes.txt").symlink_to("nowhere")
    assert names(f"{tmp_path}/*.parquet", tmp_path) == ["a.parquet"]
    assert names(f"{tmp_path}/a", tmp_path) == ["a.parquet"]


def test_links_to_files_and_folders_are_followed(tmp_path: Path, write: Write) -> None:
    write("real/a.parquet", ONE_ROW)
    given = tmp_path / "given"
    given.mkdir()
    (given / "b.parquet").symlink_to(tmp_path / "real" / "a.parquet")
    (given / "c").symlink_to(tmp_path / "real")
    assert names(given, given) == ["b.parquet", "c/a.parquet"]


def test_a_folder_that_may_not_be_read_is_a_sentence(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.parquet", ONE_ROW)
    (tmp_path / "private").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    with pytest.raises(UserError, match="private: there is no permission"):
        find_inputs(str(tmp_path))
