"""Versions, the pointer, takedowns, rolling back and pruning, on a disk and on S3; two runs never work at once."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill import storage
from clipmill.core.errors import Occupied, RunFailed, UserError
from clipmill.core.manifests import Counts
from clipmill.storage import lease
from clipmill.storage.s3 import client as s3_client
from clipmill.versions.lock import alone
from clipmill.versions.place import Place
from clipmill.versions.pointer import current, read_pointer, switch
from clipmill.versions.prune import Pruning, plan_pruning, prune
from clipmill.versions.rollback import roll_back
from clipmill.versions.takedown import Takedown, add_removed, read_removed
from clipmill.versions.unfinished import begin, end, read_unfinished
from clipmill.versions.version import Version, all_versions, manifests_of, write_version
from clipmill_jobs.prune import command as prune_command
from faulty_s3 import BUCKET, FaultyS3


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture(params=["local", "s3"])
def place(
    request: pytest.FixtureRequest, server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    if request.param == "local":
        yield Place.of(str(tmp_path / "out"))
        return
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    yield Place.of(f"s3://{BUCKET}/{tmp_path.name}/out")
    s3_client.forget()


def make(place: Place, name: str, removed: int = 0) -> Version:
    """A version that holds two small manifests."""
    folder = place.version(name)
    for part in ("embeddings", "index"):
        storage.write_bytes(folder / part / "manifest.json", f"{part} of {name}".encode())
        storage.write_bytes(folder / part / "data", b"data")
    version = Version(
        name=name,
        made=datetime.now(timezone.utc),
        base=None,
        key=name,
        manifests=manifests_of(folder),
        counts=Counts(rows=1),
        rows_encoded=1,
        rows_reused=0,
        removed=removed,
        ordinals=0,
        training=None,
        notes=[],
        bars=[],
    )
    write_version(place, version)
    return version


def pruned(place: Place, pruning: Pruning) -> None:
    with alone(place.pointer_lock) as lease:
        prune(place, pruning, lease)


def ids(*names: str) -> Takedown:
    return Takedown(frozenset(names))


def publish(place: Place, name: str, removed: int = 0) -> Version:
    version = make(place, name, removed)
    switch(place, version, read_pointer(place))
    return version


def names_at(place: Place) -> set[str]:
    start = len(place.output.path) + 1
    return {info.path[start:] for info in storage.list_files(place.output)}


def test_readers_find_the_parts_of_the_current_version(place: Place) -> None:
    uri = place.output.uri
    assert current(uri, "index") == uri, "a place where nothing is published is taken as it is"
    publish(place, "1")
    assert current(uri, "index") == f"{uri}/runs/1/index"
    publish(place, "2")
    assert current(uri, "embeddings") == f"{uri}/runs/2/embeddings"
    dataset = f"{uri}/runs/1/index"
    assert current(dataset, "index") == dataset
    assert read_pointer(place).pointer.manifests == manifests_of(place.version("2"))


def test_a_pointer_that_was_switched_meanwhile_is_left_alone(place: Place) -> None:
    publish(place, "1")
    seen = read_pointer(place)
    publish(place, "2")
    with pytest.raises(RunFailed, match=r"switched by somebody else.*it was at 1.*run the same command again"):
        switch(place, make(place, "3"), seen)
    assert read_pointer(place).name == "2"


def test_rolling_back_writes_one_file(place: Place) -> None:
    publish(place, "1")
    publish(place, "2")
    publish(place, "3")
    before = {name: storage.read_bytes(place.output / name) for name in names_at(place)}
    assert roll_back(place, None) == ("3", "2")
    after = {name: storage.read_bytes(place.output / name) for name in names_at(place)}
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {"current.json"}
    assert roll_back(place, "3") == ("2", "3")
    assert roll_back(place, "1") == ("3", "1")
    with pytest.raises(UserError, match="no version before 1"):
        roll_back(place, None)
    with pytest.raises(UserError, match="no version 9; there are 1, 2, 3"):
        roll_back(place, "9")


def test_rolling_back_never_shows_what_was_altered_or_taken_down(place: Place) -> None:
    publish(place, "1")
    publish(place, "2")
    storage.write_bytes(place.version("1") / "index/manifest.json", b"other")
    with pytest.raises(UserError, match="version 1 was altered"):
        roll_back(place, None)
    add_removed(place, ids("x"))
    publish(place, "3", removed=1)
    with pytest.raises(UserError, match="version 2 was made before something was taken down"):
        roll_back(place, None)
    assert read_pointer(place).name == "3"


def test_pruning_keeps_the_newest_and_the_current(place: Place) -> None:
    for name in "12345":
        publish(place, name)
    roll_back(place, "2")
    storage.write_bytes(place.version("0") / "embeddings/manifest.json", b"never finished")
    pruning = plan_pruning(place, 2)
    assert [name for name, _ in pruning.removed] == ["1", "3"]
    assert (pruning.kept, pruning.halves, pruning.waiting) == (["2", "4", "5"], ["0"], None)
    pruned(place, pruning)
    assert [version.name for version in all_versions(place)] == ["2", "4", "5"]
    assert {name.split("/")[1] for name in names_at(place) if name.startswith("runs/")} == {"2", "4", "5"}
    for name in "245":
        assert manifests_of(place.version(name)) == all_versions(place)[["2", "4", "5"].index(name)].manifests


def test_a_pruning_that_is_only_tried_removes_nothing_and_says_would(place: Place) -> None:
    for name in "123":
        publish(place, name)
    arguments = [place.output.uri, "--keep", "1"]
    tried = CliRunner().invoke(prune_command, [*arguments, "--dry-run"]).stdout.splitlines()
    assert tried == [
        "would remove 1: it is an old one",
        "would remove 2: it is an old one",
        "1 versions would be left",
    ]
    assert len(all_versions(place)) == 3
    done = CliRunner().invoke(prune_command, arguments).stdout.splitlines()
    assert done == ["removed 1: it is an old one", "removed 2: it is an old one", "1 versions are left"]


def test_pruning_leaves_what_a_run_will_go_on_with(place: Place) -> None:
    publish(place, "1")
    under_way = begin(place, "key", "1")
    storage.write_bytes(place.version(under_way.name) / "embeddings/manifest.json", b"half")
    pruned(place, plan_pruning(place, 1))
    assert storage.exists(place.version(under_way.name) / "embeddings/manifest.json")


def test_pruning_removes_versions_from_before_a_takedown(place: Place) -> None:
    for name in "123":
        publish(place, name)
    assert add_removed(place, ids("b", "a")) == (2, ids("a", "b"))
    assert add_removed(place, ids("a")) == (0, ids("a", "b"))
    assert read_removed(place) == ids("a", "b")
    pruning = plan_pruning(place, 3)
    assert ([name for name, _ in pruning.removed], pruning.kept, pruning.waiting) == (["1", "2"], ["3"], "3")
    publish(place, "4", removed=2)
    pruning = plan_pruning(place, 3)
    assert ([name for name, _ in pruning.removed], pruning.kept, pruning.waiting) == (["1", "2", "3"], ["4"], None)


def test_of_takedowns_at_once_none_is_lost(place: Place) -> None:
    threads = [threading.Thread(target=add_removed, args=(place, ids(f"id {number}"))) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_removed(place) == ids(*(f"id {number}" for number in range(5)))


def test_a_damaged_takedown_list_stops_everything(place: Place) -> None:
    storage.write_bytes(place.removed, b'{"ids": 3}')
    with pytest.raises(RunFailed, match=r"removed.json is damaged"):
        read_removed(place)


def test_a_killed_run_is_gone_on_with_only_where_it_made_the_same(place: Place) -> None:
    first = begin(place, "a" * 64, None)
    storage.write_bytes(place.version(first.name) / "embeddings/part", b"work")
    storage.write_bytes(place.new_rows / "part", b"work")
    assert begin(place, "a" * 64, None) == first
    assert storage.exists(place.new_rows / "part")
    other = begin(place, "b" * 64, None)
    assert other.name.endswith("-bbbbbbbb")
    assert not storage.exists(place.version(first.name) / "embeddings/part")
    assert not storage.exists(place.new_rows / "part")
    end(place)
    assert read_unfinished(place) is None


def test_the_second_run_leaves_or_waits(place: Place) -> None:
    with (
        alone(place.run_lock),
        pytest.raises(Occupied, match=r"another run .* is working .*; or give --wait SECONDS"),
        alone(place.run_lock),
    ):
        pass
    inside, over = threading.Event(), threading.Event()

    def first() -> None:
        with alone(place.run_lock):
            inside.set()
            over.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(30)
    threading.Timer(0.3, over.set).start()
    with alone(place.run_lock, wait=60) as ownership:
        assert over.is_set()
        ownership.check()
    thread.join()
    assert not storage.exists(place.output / "run.owner.json")


def test_waiting_ends(place: Place) -> None:
    with alone(place.run_lock), pytest.raises(Occupied, match="another run"), alone(place.run_lock, wait=0.1):
        pass


def test_a_mark_of_a_dead_run_is_taken_over(place: Place) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    statement = {**json.loads(lease._statement("another")), "process": dead.pid}
    storage.write_bytes(place.output / "run.owner.json", json.dumps(statement).encode())
    began = time.monotonic()
    with alone(place.run_lock) as ownership:
        ownership.check()
    assert time.monotonic() - began < lease._STALE_SECONDS


@pytest.mark.parametrize("damage", [b"{", b"[" * 100_000, b"{}", b"\xff\xfe"])
def test_a_damaged_old_version_blocks_nothing_and_is_not_removed(place: Place, damage: bytes) -> None:
    for name in ("1", "2", "3", "4"):
        publish(place, name)
    storage.write_bytes(place.version("2") / "version.json", damage)
    assert [version.name for version in all_versions(place)] == ["1", "3", "4"]
    pruning = plan_pruning(place, keep=1)
    assert ([name for name, _ in pruning.removed], pruning.halves) == (["1", "3"], [])
    pruned(place, pruning)
    assert storage.exists(place.version("2"))
    assert [version.name for version in all_versions(place)] == ["4"]
