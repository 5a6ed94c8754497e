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
from clipmill.source.inputs import locate


@pytest.fixture
def table(tmp_path: Path) -> storage.Location:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/a b%20.jpg").write_bytes(b"picture")
    (tmp_path / "c.jpg").write_bytes(b"other")
    return storage.resolve(tmp_path / "data/part-0.parquet")


def test_relative_absolute_and_file_addresses(table: storage.Location, tmp_path: Path) -> None:
    assert load_image_bytes("images/a b%20.jpg", table) == b"picture"
    assert load_image_bytes("./images/../../c.jpg", table) == b"other"
    assert load_image_bytes(str(tmp_path / "c.jpg"), table) == b"other"
    assert load_image_bytes(f"file://{tmp_path}/c.jpg", table) == b"other"


@pytest.mark.parametrize(
    ("path", "reason", "said"),
    [
        ("images/absent.jpg", Reason.IMAGE_NOT_FOUND, "data/images/absent.jpg: no such file"),
        ("images", Reason.IMAGE_NOT_FOUND, "is a folder"),
        ("https://example.org/a.jpg", Reason.IMAGE_NOT_FOUND, "does not download"),
        ("gs://bucket/a.jpg", Reason.IMAGE_NOT_FOUND, "not supported"),
        ("a\0b.jpg", Reason.IMAGE_NOT_FOUND, "zero byte"),
        ("s3://photos/a\0b.jpg", Reason.IMAGE_NOT_FOUND, "zero byte"),
        ("/dev/zero", Reason.IMAGE_NOT_FOUND, "/dev/zero is not a regular file"),
        ("s3://", Reason.IMAGE_NOT_FOUND, "names no bucket"),
        ("s3:///a.jpg", Reason.IMAGE_NOT_FOUND, "names no bucket"),
        ("s3://two words/a.jpg", Reason.IMAGE_NOT_FOUND, "cannot be opened"),
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
    with pytest.raises(Rejected, match="7 bytes, more than any picture"):
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
            load_image_bytes(f"s3://nowhere-at-all/{name}.jpg", table)
        assert caught.value.reason == Reason.IMAGE_NOT_FOUND
    assert asked == ["s3://nowhere-at-all/a.jpg"]


def test_objects_are_found_and_missed(bucket: Any, table: storage.Location) -> None:
    bucket.put_object(Bucket="photos", Key="set/img/a b.jpg", Body=b"object")
    base = locate("s3://photos/set/part-0.parquet")
    assert load_image_bytes("img/a b.jpg", base) == b"object"
    assert load_image_bytes("s3://photos/set/img/a b.jpg", table) == b"object"
    for absent in ("img/b.jpg", "s3://another/b.jpg"):
        with pytest.raises(Rejected):
            load_image_bytes(absent, base)
    with pytest.raises(Rejected, match="leads out of the bucket"):
        load_image_bytes("../../../b.jpg", base)


def test_a_bucket_that_does_not_answer_fails_the_run(table: storage.Location, monkeypatch: pytest.MonkeyPatch) -> None:
    class Down:
        def get_file_info(self, path: str) -> None:
            raise OSError("network is unreachable")

    base = storage.Location(Down(), "photos/set/part-0.parquet", "s3://photos/set/part-0.parquet")
    with pytest.raises(RunFailed, match="could not be fetched"):
        load_image_bytes("a.jpg", base)
