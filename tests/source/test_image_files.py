"""Images named by path are found beside the file that names them, and a missing one is a reject."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import Reason
from clipmill.source import image_files
from clipmill.source.image_files import Rejected, load_image_bytes
from clipmill.source.locating import locate

PICTURE, OTHER, SECRET = b"GIF89a picture", b"GIF89a other", b"GIF89a secret"


@pytest.fixture
def table(tmp_path: Path) -> storage.Location:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/a b%20.jpg").write_bytes(PICTURE)
    (tmp_path / "data/c.jpg").write_bytes(OTHER)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/d.jpg").write_bytes(SECRET)
    return storage.resolve(tmp_path / "data/part-0.parquet")


def test_relative_absolute_and_file_addresses(table: storage.Location, tmp_path: Path) -> None:
    assert load_image_bytes("images/a b%20.jpg", table) == PICTURE
    assert load_image_bytes("./images/../c.jpg", table) == OTHER
    assert load_image_bytes(str(tmp_path / "data/c.jpg"), table) == OTHER
    assert load_image_bytes(f"file://{tmp_path}/data/c.jpg", table) == OTHER


@pytest.mark.parametrize(
    ("path", "reason", "said"),
    [
        ("images/absent.jpg", Reason.IMAGE_NOT_FOUND, "data/images/absent.jpg: no such file"),
        ("images", Reason.IMAGE_NOT_FOUND, "is a folder"),
        ("https://example.org/a.jpg", Reason.IMAGE_NOT_FOUND, "does not download"),
        ("gs://bucket/a.jpg", Reason.IMAGE_NOT_FOUND, "not supported"),
        ("a\0b.jpg", Reason.IMAGE_NOT_FOUND, "zero byte"),
        ("s3://photos/a\0b.jpg", Reason.IMAGE_NOT_FOUND, "zero byte"),
        ("/dev/zero", Reason.OUTSIDE_OF_INPUT, "--allow-outside /dev"),
        ("s3://", Reason.IMAGE_NOT_FOUND, "names no bucket"),
        ("s3:///a.jpg", Reason.IMAGE_NOT_FOUND, "names no bucket"),
        ("s3://../a.jpg", Reason.IMAGE_NOT_FOUND, "names no bucket"),
        ("s3://two words/a.jpg", Reason.OUTSIDE_OF_INPUT, "--allow-outside s3://two words"),
        (" ", Reason.MISSING_IMAGE, "empty"),
        ("x" * 5000, Reason.UNREADABLE_IMAGE, "xxx"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_reject(table: storage.Location, path: str, reason: Reason, said: str) -> None:
    with pytest.raises(Rejected) as caught:
        load_image_bytes(path, table)
    assert caught.value.reason == reason
    assert said in caught.value.detail


def test_a_file_larger_than_any_picture_is_not_read(table: storage.Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 6)
    with pytest.raises(Rejected, match="14 bytes, more than any picture"):
        load_image_bytes("images/a b%20.jpg", table)


def test_pipes_and_sockets_are_not_waited_for(
    table: storage.Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "data/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the whole path is too long for the name of a socket
        listening.bind("data/socket.jpg")
        for name in ("pipe.jpg", "socket.jpg"):
            with pytest.raises(Rejected, match=f"{name} is not a regular file"):
                load_image_bytes(name, table)


def test_a_bucket_that_cannot_be_opened_rejects_the_row_and_is_asked_for_once(
    table: storage.Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(path: str) -> storage.Location:
        asked.append(path)
        raise UserError(f"{path}: cannot be opened: no such host")

    monkeypatch.setattr(image_files, "locate", refuse)
    for name in ("a", "b"):
        with pytest.raises(Rejected, match=f"s3://nowhere-at-all/{name}.jpg: .*no such host") as caught:
            load_image_bytes(f"s3://nowhere-at-all/{name}.jpg", table, ["s3://nowhere-at-all"])
        assert caught.value.reason == Reason.IMAGE_NOT_FOUND
    assert asked == ["s3://nowhere-at-all/a.jpg"]


def test_objects_are_found_and_missed(bucket: Any, table: storage.Location) -> None:
    bucket.put_object(Bucket="photos", Key="set/img/a b.jpg", Body=OTHER)
    base = locate("s3://photos/set/part-0.parquet")
    assert load_image_bytes("img/a b.jpg", base) == OTHER
    assert load_image_bytes("s3://photos/set/img/a b.jpg", base) == OTHER
    assert load_image_bytes("s3://photos/set/img/a b.jpg", table, ["s3://photos/set/"]) == OTHER
    with pytest.raises(Rejected, match="no such file"):
        load_image_bytes("img/b.jpg", base)


@pytest.mark.parametrize(
    "path",
    [
        "../set2/a.jpg",
        "../../../b.jpg",
        "s3://photos/a.jpg",
        "s3://photos/set2/a.jpg",
        "s3://photos/set/../secret/a.jpg",
        "s3://another/set/a.jpg",
        "/etc/passwd",
        "file:///etc/passwd",
        "~/.ssh/id_rsa",
    ],
)
def test_objects_outside_of_the_prefix_of_their_table_are_not_asked_for(path: str) -> None:
    class Untouchable:
        def get_file_info(self, path: str) -> None:
            raise AssertionError(path)

    base = storage.Location(Untouchable(), "photos/set/part-0.parquet", "s3://photos/set/part-0.parquet")
    for allowed in ([], ["s3://photos/set/other", "s3://photo", "/var"]):
        with pytest.raises(Rejected, match="--allow-outside") as caught:
            load_image_bytes(path, base, allowed)
        assert caught.value.reason == Reason.OUTSIDE_OF_INPUT


@pytest.fixture
def ways_out(table: storage.Location, tmp_path: Path) -> list[str]:
    """Paths to the picture outside of the folder of the table, by each way that there is."""
    (tmp_path / "data/link.jpg").symlink_to(tmp_path / "outside/d.jpg")
    (tmp_path / "data/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "data/again").symlink_to("folder")
    (tmp_path / "data2").symlink_to("outside")
    return [
        "../outside/d.jpg",
        "images/../../outside/./d.jpg",
        str(tmp_path / "outside/d.jpg"),
        f"{tmp_path}/data/../outside/d.jpg",
        f"file://{tmp_path}/outside/d.jpg",
        f"file://{tmp_path}/data/../outside/d.jpg",
        "link.jpg",
        "folder/d.jpg",
        "again/d.jpg",
        "../data2/d.jpg",
    ]


def test_no_way_leads_out_of_the_folder_of_the_table(ways_out: list[str], table: storage.Location) -> None:
    for way in ways_out:
        with pytest.raises(Rejected, match="--allow-outside") as caught:
            load_image_bytes(way, table)
        assert caught.value.reason == Reason.OUTSIDE_OF_INPUT


def test_every_way_is_open_below_a_prefix_that_is_allowed(
    ways_out: list[str], table: storage.Location, tmp_path: Path
) -> None:
    for allowed in (str(tmp_path), str(tmp_path / "outside"), f"{tmp_path}/data2", "/"):
        for way in ways_out:
            assert load_image_bytes(way, table, ["s3://photos", allowed]) == SECRET


def test_an_answer_does_not_tell_whether_there_is_a_file_outside(table: storage.Location, tmp_path: Path) -> None:
    said = []
    for name in ("d.jpg", "x.jpg"):
        with pytest.raises(Rejected) as caught:
            load_image_bytes(f"../outside/{name}", table)
        said.append(caught.value.detail.replace(name, "NAME"))
    assert said[0] == said[1]


def test_a_table_that_is_a_link_allows_the_folder_that_it_is_named_in(table: storage.Location, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to("data")
    alias = storage.resolve(tmp_path / "alias/part-0.parquet")
    assert load_image_bytes("c.jpg", alias) == OTHER
    assert load_image_bytes(str(tmp_path / "data/c.jpg"), alias) == OTHER


@pytest.mark.parametrize("content", [b"root:x:0:0:", b"BMW 3", b"P5 key", b"\x7fELF", b"PAR1", b"GIF8 secret"])
def test_what_begins_as_no_image_is_not_read_further(content: bytes, table: storage.Location, tmp_path: Path) -> None:
    (tmp_path / "data/e.jpg").write_bytes(content + bytes(100_000))
    with pytest.raises(Rejected) as caught:
        load_image_bytes("e.jpg", table)
    assert caught.value.reason == Reason.NOT_AN_IMAGE
    assert content.decode(errors="replace")[:6] not in caught.value.detail


def test_a_bucket_that_does_not_answer_fails_the_run(table: storage.Location, monkeypatch: pytest.MonkeyPatch) -> None:
    class Down:
        def get_file_info(self, path: str) -> None:
            raise OSError("network is unreachable")

    base = storage.Location(Down(), "photos/set/part-0.parquet", "s3://photos/set/part-0.parquet")
    with pytest.raises(RunFailed, match="could not be fetched"):
        load_image_bytes("a.jpg", base)
