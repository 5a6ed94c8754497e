"""On S3 a dataset is replaced whole, by one run only, and copies for search are continued where they broke off."""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.storage import Location
from clipmill.storage.s3 import client as s3_client
from clipmill.storage.s3 import publish, transfer
from faulty_s3 import BUCKET, FaultyS3

PART = 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture
def store(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_client, "_LONGEST_PAUSE", 0.02)
    s3_client.forget()
    server.forget_counts()
    yield server
    server.plan = None
    server.share = 0.0
    s3_client.forget()


@pytest.fixture
def output(store: FaultyS3, tmp_path: Path) -> Location:
    return storage.resolve(f"s3://{BUCKET}/{tmp_path.name}/out")


def stage(output: Location, run: str, parts: int = 2) -> Location:
    """A finished dataset of this run: its tables and manifest hold its name, its parts too."""
    staging = storage.staging_of(output) / run
    for number in range(parts):
        storage.write_bytes(staging / f"images/part-{number}-{run}", run.encode())
    for name in ("inputs.parquet", "shards.parquet", "manifest.json"):
        storage.write_bytes(staging / name, run.encode())
    return staging


def contents(output: Location) -> dict[str, str]:
    infos = storage.list_files(output)
    data = [storage.read_bytes(Location(output.filesystem, info.path, info.path)) for info in infos]
    return {info.path[len(output.path) + 1 :]: one.decode() for info, one in zip(infos, data, strict=True)}


def whole(run: str, parts: int = 2) -> dict[str, str]:
    names = ["inputs.parquet", "manifest.json", "shards.parquet", *(f"images/part-{n}-{run}" for n in range(parts))]
    return dict.fromkeys(names, run)


def test_a_dataset_is_replaced_by_a_copy_on_the_server_its_manifest_last(store: FaultyS3, output: Location) -> None:
    storage.publish(stage(output, "one", parts=3), output)
    assert contents(output) == whole("one", parts=3)
    staging = stage(output, "two")
    written: list[str] = []
    store.plan = lambda number, method, path: written.append(f"{method} {path}")  # type: ignore[func-returns-value]
    storage.publish(staging, output)
    store.plan = None
    assert contents(output) == whole("two")
    puts = [line.rsplit("/", 1)[-1] for line in written if line.startswith("PUT")]
    assert puts[-3:] == ["inputs.parquet", "shards.parquet", "manifest.json"]
    assert len(puts) == 5
    assert written[-1].startswith("POST")


def test_publishing_survives_faults(store: FaultyS3, output: Location) -> None:
    storage.publish(stage(output, "one"), output)
    staging = stage(output, "two", parts=20)
    store.share = 0.3
    storage.publish(staging, output)
    store.share = 0.0
    assert store.faults.total() >= 5
    assert contents(output) == whole("two", parts=20)


@pytest.mark.parametrize("step", ["copy", "put_if"])
def test_of_two_that_publish_the_later_leaves_the_dataset_of_the_other(
    step: str, output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.publish(stage(output, "old"), output)
    late, quick = stage(output, "late"), stage(output, "quick")
    original = getattr(publish, step)

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(publish, step, original)
        storage.publish(quick, output)
        return original(*arguments)

    monkeypatch.setattr(publish, step, overtaken)
    with pytest.raises(RunFailed, match=r"another run published here .* its dataset stays"):
        storage.publish(late, output)
    assert contents(output).items() >= whole("quick").items()


def test_of_many_that_publish_at_once_one_dataset_is_there(output: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    began, copy = threading.Barrier(6), publish.copy

    def copy_when_all_have_begun(source: str, target: str, size: int) -> None:
        if "part-0-" in source:
            began.wait(30)
        copy(source, target, size)

    monkeypatch.setattr(publish, "copy", copy_when_all_have_begun)
    runs = [f"run{number}" for number in range(6)]
    stages = [stage(output, run) for run in runs]

    def attempt(staging: Location) -> bool:
        try:
            storage.publish(staging, output)
        except RunFailed:
            return False
        return True

    with ThreadPoolExecutor(len(runs)) as pool:
        done = list(pool.map(attempt, stages))
    found = contents(output)
    assert sum(done) == 1
    winner = runs[done.index(True)]
    assert {found[name] for name in ("inputs.parquet", "shards.parquet", "manifest.json")} == {winner}
    assert found.items() >= whole(winner).items()


def test_large_objects_are_copied_in_parts(store: FaultyS3, output: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_COPY_WHOLE", 6 << 20)
    monkeypatch.setattr(
        transfer, "_ACROSS", transfer.TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=5 << 20)
    )
    data = os.urandom(11 << 20)
    written = storage.write_bytes(output / "large", data)
    store.forget_counts()
    transfer.copy((output / "large").path, (output / "copy").path, len(data))
    assert store.requests["PUT"] == 3
    assert storage.sha256(output / "copy") == written.sha256


def test_what_is_gone_is_named_when_it_is_to_be_copied(output: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    for whole in (1 << 30, 0):
        monkeypatch.setattr(transfer, "_COPY_WHOLE", whole)
        with pytest.raises(RunFailed, match=rf"{output}/gone, which was to be copied to {output}/copy, is gone"):
            transfer.copy((output / "gone").path, (output / "copy").path, 1)


def test_nothing_is_published_without_what_makes_it_exist(output: Location) -> None:
    storage.publish(stage(output, "one"), output)
    staging = stage(output, "two")
    storage.remove(staging / "manifest.json")
    with pytest.raises(RunFailed, match=r"two/manifest\.json is gone"):
        storage.publish(staging, output)
    assert contents(output) == whole("one")


@pytest.fixture
def large(output: Location, monkeypatch: pytest.MonkeyPatch) -> tuple[Location, bytes, str]:
    """An object of ten parts, its bytes and their sha256; parts are fetched one after another."""
    monkeypatch.setattr(transfer, "_PART", PART)
    monkeypatch.setattr(transfer, "_THREADS", 1)
    data = os.urandom(10 * PART - 1)
    storage.write_bytes(output / "shard.faiss", data)
    return output / "shard.faiss", data, hashlib.sha256(data).hexdigest()


def test_a_copy_is_made_in_parts_and_kept(store: FaultyS3, large: tuple[Location, bytes, str], tmp_path: Path) -> None:
    location, data, digest = large
    store.forget_counts()
    copy = storage.local_copy(location, tmp_path / "cache", digest)
    assert copy.read_bytes() == data
    assert store.requests == {"HEAD": 1, "GET": 10}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{digest}-shard.faiss"]
    assert storage.local_copy(location, tmp_path / "cache", digest) == copy
    assert store.requests == {"HEAD": 1, "GET": 10}


def test_a_copy_that_broke_off_is_continued(
    store: FaultyS3, large: tuple[Location, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, data, digest = large
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "0")
    store.forget_counts()
    store.plan = lambda number, method, path: "reset" if number == 7 else None
    with pytest.raises(RunFailed, match=r"shard\.faiss"):
        storage.local_copy(location, tmp_path, digest)
    store.forget_counts()
    store.plan = None
    assert storage.local_copy(location, tmp_path, digest).read_bytes() == data
    assert store.requests["GET"] <= 4


def test_a_part_that_was_lost_on_the_disk_is_fetched_again(
    store: FaultyS3, large: tuple[Location, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, data, digest = large
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "0")
    store.forget_counts()
    store.plan = lambda number, method, path: "reset" if number == 7 else None
    with pytest.raises(RunFailed):
        storage.local_copy(location, tmp_path, digest)
    store.plan = None
    partial = tmp_path / f"{digest}-shard.faiss.partial"
    with open(partial, "r+b") as file:
        file.write(bytes(PART))
    assert storage.local_copy(location, tmp_path, digest).read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == [f"{digest}-shard.faiss"]


def test_parts_of_another_version_are_not_used(
    store: FaultyS3, large: tuple[Location, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, data, digest = large
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "0")
    storage.write_bytes(location, data[::-1])
    store.forget_counts()
    store.plan = lambda number, method, path: "reset" if number == 7 else None
    with pytest.raises(RunFailed):
        storage.local_copy(location, tmp_path, digest)
    store.plan = None
    storage.write_bytes(location, data)
    store.forget_counts()
    assert storage.local_copy(location, tmp_path, digest).read_bytes() == data
    assert store.requests == {"HEAD": 1, "GET": 10}


def test_bytes_that_are_not_those_promised_are_refused(large: tuple[Location, bytes, str], tmp_path: Path) -> None:
    location, _, digest = large
    wrong = "0" * 64
    with pytest.raises(RunFailed, match=rf"its sha256 is {digest}, the manifest says {wrong}"):
        storage.local_copy(location, tmp_path, wrong)
    assert not list(tmp_path.glob("*.partial*"))
    with pytest.raises(RunFailed, match="is missing"):
        storage.local_copy(location.sibling("absent"), tmp_path, wrong)


def test_one_download_serves_all_that_wait_for_it(
    store: FaultyS3, large: tuple[Location, bytes, str], tmp_path: Path
) -> None:
    location, data, digest = large
    store.forget_counts()
    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(lambda _: storage.local_copy(location, tmp_path, digest), range(4)))
    assert {copy.read_bytes() for copy in copies} == {data}
    assert store.requests == {"HEAD": 1, "GET": 10}
