"""Places are found, files appear whole or not at all, and a dataset is replaced only by a finished one."""

from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import RunFailed, UserError


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


def test_files_are_listed_in_byte_order(tmp_path: Path) -> None:
    for name in ("b", "B", "a/é", "a/z", "10", "9"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [info.path.removeprefix(f"{tmp_path}/") for info in storage.list_files(storage.resolve(tmp_path))]
    assert names == sorted(names, key=str.encode)
    assert len(names) == 6
    assert storage.list_files(storage.resolve(tmp_path / "absent")) == []
