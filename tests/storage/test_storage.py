"""Places are found, files appear whole or not at all, and a dataset is replaced only by a finished one."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError


def test_local_paths_become_absolute_and_know_their_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = storage.resolve("out/run")
    assert location.path == str(tmp_path / "out/run")
    assert (location / "a.json").path == str(tmp_path / "out/run/a.json")
    assert storage.staging_of(location).path == str(tmp_path / "out/.run.staging")


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "", "  "])
def test_other_storage_is_refused_in_words(uri: str) -> None:
    with pytest.raises(UserError):
        storage.resolve(uri)


def test_a_file_whose_writer_fails_does_not_appear(tmp_path: Path) -> None:
    location = storage.resolve(tmp_path / "sub/a.bin")
    with pytest.raises(ValueError, match="half way"), storage.atomic_writer(location) as stream:  # noqa: PT012
        stream.write(b"half")
        raise ValueError("half way")
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunFailed, match="file/"):
        storage.write_bytes(storage.resolve(tmp_path / "file/below"), b"x")


def test_what_the_caller_raises_is_not_taken_for_a_failure_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), storage.atomic_writer(storage.resolve(tmp_path / "a")):
        raise FileNotFoundError("mine")


def test_output_follows_links_and_refuses_mount_points(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert storage.resolve_output(str(tmp_path / "link/out")).path == str(tmp_path / "disk/out")
    with pytest.raises(UserError, match="mount point"):
        storage.resolve_output("/")


def test_publishing_replaces_the_old_dataset_and_leaves_nothing_behind(tmp_path: Path) -> None:
    output = storage.resolve(tmp_path / "data")
    for text in (b"old", b"new"):
        staging = storage.staging_of(output)
        storage.write_bytes(staging / f"part-{text.decode()}", text)
        storage.write_bytes(staging / "manifest.json", text)
        storage.publish(staging, output)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"part-new", "manifest.json"}


@pytest.mark.parametrize("before", ["published", "killed between the two renames"])
def test_an_old_dataset_comes_back_when_the_new_one_cannot_take_its_place(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = storage.resolve(tmp_path / "data")
    old = tmp_path / ("data" if before == "published" else ".data.retired")
    old.mkdir()
    (old / "manifest.json").write_bytes(b"old")
    storage.write_bytes(storage.staging_of(output) / "manifest.json", b"new")
    replace = os.replace

    def refuse(source: str, target: str) -> None:
        if source.endswith(".staging"):
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(RunFailed, match=f"{output}: could not be written: Permission denied"):
            storage.publish(storage.staging_of(output), output)
    assert {path.name for path in tmp_path.iterdir()} == {"data", ".data.staging"}
    assert (tmp_path / "data/manifest.json").read_bytes() == b"old"
    storage.publish(storage.staging_of(output), output)
    assert (tmp_path / "data/manifest.json").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_is_moved_aside_for_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    output = storage.resolve(tmp_path / "data")
    with pytest.raises(RunFailed, match=r"\.data\.staging, which was to be published .* is gone"):
        storage.publish(storage.staging_of(output), output)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_names_are_told_with_their_folder_when_asked_whether_they_are_ours(tmp_path: Path) -> None:
    (tmp_path / "year=2024").mkdir()
    (tmp_path / "year=2024/part-0.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"other files in it \(year=2024/part-0\.parquet\)"):
        storage.holds_only(storage.resolve(tmp_path), lambda name: name.startswith("part-"))


def test_files_are_listed_in_byte_order(tmp_path: Path) -> None:
    for name in ("b", "B", "a/é", "a/z", "10", "9"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [info.path.removeprefix(f"{tmp_path}/") for info in storage.list_files(storage.resolve(tmp_path))]
    assert names == sorted(names, key=str.encode)
    assert len(names) == 6
    assert storage.list_files(storage.resolve(tmp_path / "absent")) == []


def test_what_was_written_is_described_without_reading_it_again(tmp_path: Path) -> None:
    location = storage.resolve(tmp_path / "a.parquet")
    table = pa.table({"a": list(range(1000))})
    written = storage.write_table(location, table)
    data = (tmp_path / "a.parquet").read_bytes()
    assert (written.bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert storage.read_table(location) == table


def test_a_conditional_write_needs_the_version_that_is_there(tmp_path: Path) -> None:
    place = storage.resolve(tmp_path / "sub/mark")
    first = storage.write_if(place, b"one", None)
    assert first is not None
    assert storage.write_if(place, b"two", None) is None
    second = storage.write_if(place, b"two", first)
    assert second not in (None, first)
    assert storage.write_if(place, b"three", first) is None
    found = storage.read_versioned(place)
    assert (found.data, found.version) == (b"two", second)
    assert found.age < 60
    storage.remove(place)
    assert storage.write_if(place, b"three", second) is None
    assert list((tmp_path / "sub").iterdir()) == []


def test_of_processes_that_write_on_condition_each_step_is_taken_by_one(tmp_path: Path) -> None:
    """Every process adds one to a number so many times, and tries again where another was first."""
    script = """
import sys
from clipmill import storage
place = storage.resolve(sys.argv[1])
for _ in range(40):
    while True:
        found = storage.read_versioned(place)
        if storage.write_if(place, str(int(found.data) + 1).encode(), found.version):
            break
"""
    storage.write_bytes(storage.resolve(tmp_path / "count"), b"0")
    command = [sys.executable, "-c", script, str(tmp_path / "count")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_bytes() == b"120"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_the_version_of_an_open_file_is_its_modification_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.utime(tmp_path / "a", ns=(1, 1_700_000_000_123_456_789))
    with storage.open_versioned(storage.resolve(tmp_path / "a")) as opened:
        assert (opened.size, opened.etag, opened.stream.read()) == (5, "1700000000123456789", b"12345")


def test_local_work_does_not_import_what_s3_needs(tmp_path: Path) -> None:
    script = """
import sys
from clipmill import storage
storage.write_bytes(storage.resolve(sys.argv[1]), b"x")
sys.exit("boto3" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "x")], check=False).returncode == 0


def test_a_range_of_a_file_is_read_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    location = storage.resolve(tmp_path / "file")
    assert storage.read_range(location, 10, 5) == bytes(range(10, 15))
    assert storage.read_range(location, 98, 5) == bytes([98, 99])
    with pytest.raises(FileNotFoundError):
        storage.read_range(storage.resolve(tmp_path / "gone"), 0, 1)
