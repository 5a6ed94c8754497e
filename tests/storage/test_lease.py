"""One run at a time works towards an output: a living one is respected, a dead one replaced, a late one stopped."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.storage import Location, Versioned, lease, local_files
from clipmill.storage.lease import Lease
from clipmill.storage.s3 import client as s3_client
from faulty_s3 import BUCKET, FaultyS3


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture(params=["local", "s3"])
def staging(
    request: pytest.FixtureRequest, server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Location]:
    if request.param == "local":
        yield storage.resolve(tmp_path / ".out.staging")
        return
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    yield storage.resolve(f"s3://{BUCKET}/{tmp_path.name}/.out.staging")
    server.plan = None
    s3_client.forget()


def mark_of(staging: Location) -> Location:
    return staging.sibling(".out.staging.owner.json")


def leave_mark(staging: Location, **changes: object) -> None:
    statement = {**json.loads(lease._statement("another")), **changes}
    storage.write_bytes(mark_of(staging), json.dumps(statement).encode())


def be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is on another system, which sees nothing of what was left before, and does not wait."""
    monkeypatch.setattr(lease, "_system", lambda: "another container")
    monkeypatch.setattr(lease, "_STALE_SECONDS", -5.0)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_second_run_is_refused_and_the_mark_goes_at_the_end(staging: Location) -> None:
    with Lease.acquire(staging) as held:
        held.check()
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()} on .* same output; wait for it"),
            Lease.acquire(staging),
        ):
            pass
        held.check()
    assert not storage.exists(mark_of(staging))
    with Lease.acquire(staging):
        pass


def test_of_many_that_start_at_once_one_gets_it(staging: Location) -> None:
    got, refused = [], []
    barrier, over = threading.Barrier(6), threading.Event()

    def start() -> None:
        barrier.wait()
        try:
            with Lease.acquire(staging):
                got.append(1)
                over.wait(30)
        except UserError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(got) + len(refused) == 6)
    over.set()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)


def test_a_living_process_is_respected_and_a_dead_one_is_not(staging: Location) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = lease._started(process.pid)
    leave_mark(staging, process=process.pid, started=started)
    with pytest.raises(UserError, match=f"process {process.pid}"), Lease.acquire(staging):
        pass
    process.communicate(b"\n")
    with Lease.acquire(staging):
        pass


def test_a_number_that_was_given_to_another_process_does_not_block(staging: Location) -> None:
    leave_mark(staging, process=os.getppid(), started=lease._started(os.getppid()))
    with pytest.raises(UserError), Lease.acquire(staging):
        pass
    leave_mark(staging, process=os.getppid(), started=lease._started(os.getppid()) - 1)
    with Lease.acquire(staging):
        pass


ELSEWHERE = pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"system": "another container"}])


def on_look(number: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does something right before the mark is looked at for the so-manieth time."""
    read, looks = storage.read_versioned, iter(range(1, 1000))
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.01)

    def look(place: Location) -> Versioned:
        if next(looks) == number:
            action()
        return read(place)

    monkeypatch.setattr(storage, "read_versioned", look)


@ELSEWHERE
def test_a_run_elsewhere_is_respected_when_it_renews_its_mark(
    elsewhere: dict[str, str], staging: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="clipmill")
    leave_mark(staging, process=999_999_999, **elsewhere)
    on_look(4, lambda: leave_mark(staging, process=999_999_999, **elsewhere), monkeypatch)
    with pytest.raises(UserError, match=r"process 999999999 on .* same output; wait for it"), Lease.acquire(staging):
        pass
    (told,) = caplog.messages
    assert told.startswith("waiting up to ")
    assert 80 <= int(told.split()[3]) <= 90


@ELSEWHERE
def test_the_mark_of_a_run_that_died_elsewhere_lapses_while_the_next_waits(
    elsewhere: dict[str, str], staging: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="clipmill")
    monkeypatch.setattr(lease, "_STALE_SECONDS", 1.5)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.05)
    leave_mark(staging, process=999_999_999, **elsewhere)
    with Lease.acquire(staging) as held:
        held.check()
    assert caplog.messages[0].startswith("waiting up to ")


def test_a_mark_that_is_given_back_ends_the_waiting(staging: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_mark(staging, host="elsewhere")
    on_look(3, lambda: storage.remove(mark_of(staging)), monkeypatch)
    with Lease.acquire(staging) as held:
        held.check()


def test_a_stale_mark_is_taken_at_once(
    staging: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="clipmill")
    leave_mark(staging, host="elsewhere")
    monkeypatch.setattr(lease, "_STALE_SECONDS", -5.0)
    with Lease.acquire(staging):
        pass
    assert caplog.messages == []


def test_a_mark_on_a_disk_is_watched_whatever_the_clocks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the file server is hours behind, or the mark is from long ago: a run elsewhere may renew it all the same."""
    staging = storage.resolve(tmp_path / ".out.staging")
    leave_mark(staging, host="elsewhere")
    for hours in (-5, 5):
        os.utime(mark_of(staging).path, (time.time() + 3600 * hours,) * 2)
        on_look(3, lambda: leave_mark(staging, host="elsewhere", renewed=1.0), monkeypatch)
        with pytest.raises(UserError, match="elsewhere"), Lease.acquire(staging):
            pass
        monkeypatch.undo()
        leave_mark(staging, host="elsewhere")


def test_a_process_that_ended_and_was_not_reaped_holds_nothing(staging: Location) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leave_mark(staging, process=process.pid, started=lease._started(process.pid))
    assert process.stdin is not None
    process.stdin.close()
    wait_until(lambda: (lease._status_of(process.pid) or ("Z", 0))[0] == "Z")
    with Lease.acquire(staging):
        pass
    process.wait()


def test_a_living_process_of_this_host_keeps_its_mark_however_old_that_is(
    staging: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_STALE_SECONDS", -5.0)
    leave_mark(staging, process=os.getppid(), started=lease._started(os.getppid()))
    with pytest.raises(UserError, match=f"process {os.getppid()}"), Lease.acquire(staging):
        pass


def test_a_write_that_landed_behind_an_error_is_recognised_as_ones_own(
    staging: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storage.write_if
    failing = iter([True])

    def landing(location: Location, data: bytes, version: str | None) -> str | None:
        written = write(location, data, version)
        if next(failing, False):
            raise RunFailed("the answer was lost")
        return written

    with Lease.acquire(staging) as held:
        monkeypatch.setattr(storage, "write_if", landing)
        with pytest.raises(RunFailed, match="the answer was lost"):
            held.check()
        held.check()
        assert not held.lost
    assert not storage.exists(mark_of(staging))


@pytest.mark.parametrize("call", ["write_if", "read_versioned"])
def test_a_run_can_leave_while_the_storage_does_not_answer(
    call: str, staging: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewing its mark, or giving it back."""
    monkeypatch.setattr(lease, "_LEAVING_SECONDS", 0.1)
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.01 if call == "write_if" else 1000.0)
    answered, asked, left = threading.Event(), threading.Event(), threading.Event()
    original = getattr(storage, call)

    def silent(*arguments: object) -> object:
        asked.set()
        answered.wait(60)
        return original(*arguments)

    def work() -> None:
        with Lease.acquire(staging):
            monkeypatch.setattr(storage, call, silent)
            if call == "write_if":
                asked.wait(60)
        left.set()

    threading.Thread(target=work).start()
    assert left.wait(30)
    assert asked.is_set()
    assert storage.exists(mark_of(staging))
    answered.set()
    wait_until(lambda: not storage.exists(mark_of(staging)))


@pytest.mark.parametrize("mark", [b"", b"[]", b"{not json", b"{}"])
def test_a_damaged_mark_does_not_block_for_ever(
    mark: bytes, staging: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(mark_of(staging), mark)
    monkeypatch.setattr(lease, "_STALE_SECONDS", -5.0)
    with Lease.acquire(staging):
        pass


def test_a_run_that_lost_its_mark_finds_out_before_it_publishes(
    staging: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease.acquire(staging) as late:
        be_elsewhere(monkeypatch)
        with Lease.acquire(staging) as taker:
            taker.check()
            assert not late.lost
            with pytest.raises(RunFailed, match="another run took over"):
                late.check()
            taker.check()
            assert (late.lost, taker.lost) == (True, False)
        with pytest.raises(RunFailed, match="another run took over"):
            late.check()
    assert not storage.exists(mark_of(staging))


def test_what_is_lost_does_not_remove_the_mark_of_the_other(staging: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Lease.acquire(staging)
    late.__enter__()
    be_elsewhere(monkeypatch)
    with Lease.acquire(staging) as taker:
        late.__exit__(None, None, None)
        taker.check()


def test_the_mark_is_renewed_through_faults(staging: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.02)
    write, calls = storage.write_if, []

    def failing(location: Location, data: bytes, version: str | None) -> str | None:
        calls.append(version)
        if 1 < len(calls) < 5:
            raise RunFailed("the network is away")
        return write(location, data, version)

    monkeypatch.setattr(storage, "write_if", failing)
    with Lease.acquire(staging) as held:
        first = storage.read_versioned(mark_of(staging)).version
        wait_until(lambda: storage.read_versioned(mark_of(staging)).version != first)
        held.check()
    assert len(calls) >= 6


def test_a_store_without_conditional_writes_is_used_with_a_word(
    server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    server.forget_counts()

    def refuse(number: int, method: str, path: str) -> str | None:
        return "501" if {"If-None-Match", "If-Match"} & set(server.headers[-1]) and method == "PUT" else None

    server.plan = refuse
    with Lease.acquire(storage.resolve(f"s3://{BUCKET}/{tmp_path.name}/.out.staging")) as held:
        held.check()
    server.plan = None
    assert server.faults["501"] == 2
    assert sum("no conditional writes" in message for message in caplog.messages) == 1


def _no_folders(handle: int, operation: int) -> None:
    """As NFS answers for what was not opened for writing."""
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _FLOCK(handle, operation)


def _nothing(handle: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def _always_bad(handle: int, operation: int) -> None:
    raise OSError(errno.EBADF, "Bad file descriptor")


_FLOCK = fcntl.flock


def writers_that_won(place: Location, version: str | None, contents: list[bytes]) -> list[int]:
    """Writes all of them at once over one version; the numbers of those that did."""
    won: list[int] = []
    barrier = threading.Barrier(len(contents))

    def write(number: int) -> None:
        barrier.wait()
        if storage.write_if(place, contents[number], version) is not None:
            won.append(number)

    threads = [threading.Thread(target=write, args=[number]) for number in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.parametrize("flock", [_no_folders, _nothing, _always_bad])
@pytest.mark.parametrize("first", ["nothing is there", "a mark is there"])
def test_of_many_writers_over_one_version_one_wins_where_folders_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: Callable[[int, int], None], first: str
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    replace = os.replace

    def slowly(source: str, target: str) -> None:
        time.sleep(0.002)
        replace(source, target)

    monkeypatch.setattr(os, "replace", slowly)
    place = storage.resolve(tmp_path / "mark.json")
    for round_ in range(10):
        version = None
        if first == "a mark is there":
            found = storage.read_versioned(place).version if storage.exists(place) else None
            version = storage.write_if(place, f"round {round_}".encode(), found)
        elif storage.exists(place):
            storage.remove(place)
        won = writers_that_won(place, version, [f"{round_} {number}".encode() for number in range(8)])
        assert len(won) == 1
        assert storage.read_bytes(place) == f"{round_} {won[0]}".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["mark.json"]


def test_what_a_writer_left_that_died_in_the_middle_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", _nothing)
    monkeypatch.setattr(local_files, "_CLAIM_SECONDS", 0.05)
    for name in (".mark.json.claim", ".mark.json.lock", ".mark.json.new"):
        (tmp_path / name).write_bytes(b"half")
    place = storage.resolve(tmp_path / "mark.json")
    assert storage.write_if(place, b"x", None) is not None
    monkeypatch.undo()
    assert storage.write_if(place, b"y", storage.read_versioned(place).version) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["mark.json"]
