"""One run at a time works towards an output: it holds a lease, a small file beside the output, and renews it.

The file is only ever written over the version that was seen before. So one of two runs that want the lease gets it, and a
run that lost it, because it was asleep or cut off for too long, finds out before it publishes.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmill import storage
from clipmill.core.environment import is_running
from clipmill.core.errors import ClipmillError, Occupied, RunFailed
from clipmill.storage import Location, Versioned

_LOG = logging.getLogger(__name__)
_RENEW_SECONDS = 20.0
_STALE_SECONDS = 90.0
_LOOK_SECONDS = 2.0
_LEAVING_SECONDS = 5.0
_TAKING_ATTEMPTS = 3
_ENDED = "ZXx"
"""States of processes that have ended, though their parent has not asked for it yet."""

_held_here: set[str] = set()
"""Tokens of the leases that this process holds now."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says; ``renewed_ago`` is in seconds."""

    host: str
    process: int
    renewed_ago: float
    alive: bool


def holder_of(staging: Location) -> Holder | None:
    """Who works on a staging folder, or did until it died; None where nobody does. Changes nothing.

    Of this host's processes the system says whether they live; others live if they renewed their lease lately.
    """
    found = _read(_file_of(staging))
    if found is None:
        return None
    mark = _mark(found.data)
    if not mark:
        return None
    alive = _lives_here(mark) if _is_of_here(mark) else found.age < _STALE_SECONDS
    return Holder(str(mark.get("host")), _process(mark), max(0.0, found.age), alive)


class Lease:
    """A lease that this process holds, renewed by a thread of its own."""

    def __init__(self, place: Location, token: str, version: str) -> None:
        self._place = place
        self._token = token
        self._version = version
        self._lost = False
        self._writing = threading.Lock()

    @property
    def lost(self) -> bool:
        """Whether another run has taken the lease, as far as is known; nothing is asked of the storage."""
        return self._lost

    def check(self) -> None:
        """Renews the lease; to be called right before publishing.

        Raises RunFailed when another run has taken it, and what the storage raises when it cannot be renewed.
        """
        with self._writing:
            if not self._lost:
                version = _renewed(self._place, self._token, self._version)
                self._lost = version is None
                self._version = version or self._version
            if self._lost:
                raise RunFailed(
                    f"another run took over the work towards this output, since this one gave no sign of life for "
                    f"{_STALE_SECONDS:.0f} seconds (its lease {self._place} is gone); nothing was published by this one: "
                    "let the other finish, or run this again when it has ended"
                )

    def keep(self, stopped: threading.Event) -> None:
        """Renews the lease until stopped; a fault of the storage only makes it try again."""
        while not stopped.wait(_RENEW_SECONDS):
            try:
                self.check()
            except (ClipmillError, OSError):
                if self._lost:
                    return

    def release(self) -> None:
        """Removes the file if it is still this run's."""
        with suppress(ClipmillError, OSError), self._writing:
            if not self._lost and _mark(storage.read_versioned(self._place).data).get("token") == self._token:
                storage.remove_file(self._place)

    @staticmethod
    @contextmanager
    def acquire(staging: Location) -> "Iterator[Lease]":
        """Holds the lease of a staging folder for the length of the block; `check` says whether it is still held.

        Raises Occupied when another run holds it: a live process of this host, or one elsewhere that renews it, which
        takes a minute and a half to find out. The lease of a dead run is taken over.
        """
        place = _file_of(staging)
        token = uuid.uuid4().hex
        _held_here.add(token)
        try:
            lease = Lease(place, token, _take(place, token))
            stopped = threading.Event()
            renewing = threading.Thread(target=lease.keep, args=[stopped], name="lease", daemon=True)
            renewing.start()
            try:
                yield lease
            finally:
                stopped.set()
                leaving = threading.Thread(target=_leave, args=[renewing, lease], name="leaving", daemon=True)
                leaving.start()
                leaving.join(_LEAVING_SECONDS)
        finally:
            _held_here.discard(token)


def _file_of(staging: Location) -> Location:
    return staging.sibling(f"{staging.name}.owner.json")


def _leave(renewing: threading.Thread, lease: Lease) -> None:
    """In a thread of its own, since a storage that does not answer keeps it for minutes; a lease that stays lapses."""
    renewing.join()
    lease.release()


def _take(place: Location, token: str) -> str:
    """The version of the file just written. Raises Occupied where another run holds the lease."""
    for _ in range(_TAKING_ATTEMPTS):
        found = _read(place)
        if found is not None:
            found = _left_by_the_dead(place, found)
        version = _renewed(place, token, found.version if found else None)
        if version is not None:
            return version
    raise Occupied(f"another run began to work towards the same output just now (its lease is {place}); wait for it")


def _renewed(place: Location, token: str, version: str | None) -> str | None:
    """The version of the file after writing it over ``version``; None where another run's is there.

    A write that was told as failed may have landed all the same: what has this run's token is its own, whatever else is in
    it.
    """
    written = storage.write_if(place, _statement(token), version)
    if written is not None:
        return written
    found = _read(place)
    if found is None or _mark(found.data).get("token") != token:
        return None
    return storage.write_if(place, _statement(token), found.version)


def _mark(data: bytes) -> dict[str, Any]:
    """What a lease's file says; nothing where it is damaged."""
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError):
        return {}


def _process(mark: dict[str, Any]) -> int:
    number = mark.get("process")
    return number if isinstance(number, int) else 0


def _is_of_here(mark: dict[str, Any]) -> bool:
    return (mark.get("host"), mark.get("system")) == (socket.gethostname(), _system())


def _read(place: Location) -> Versioned | None:
    try:
        return storage.read_versioned(place)
    except FileNotFoundError:
        return None


def _statement(token: str) -> bytes:
    process = os.getpid()
    return json.dumps(
        {
            "host": socket.gethostname(),
            "system": _system(),
            "process": process,
            "started": _started(process),
            "token": token,
            "renewed": time.time(),
        }
    ).encode()


def _left_by_the_dead(place: Location, found: Versioned) -> Versioned | None:
    """The lease of a run that has exited; None where it went meanwhile. Raises Occupied where the run lives.

    Of this host's processes the system says whether they live. Of a run elsewhere it is only known when it renews its
    lease, so this watches the file until it would be stale. How long that has been is counted here: a clock elsewhere may
    be ahead or behind. (A store's word for the age of an object counts: it compares times of its own.)
    """
    mark = _mark(found.data)
    who = f"process {mark.get('process')} on {mark.get('host')}"
    lives = Occupied(
        f"another run ({who}) is working towards the same output; wait for it, or stop it and run this again (its lease is "
        f"{place})"
    )
    if _is_of_here(mark):
        if _lives_here(mark):
            raise lives
        return found
    wait = _STALE_SECONDS - (0.0 if place.is_local else max(0.0, found.age))
    if wait > 0:
        _LOG.info("waiting up to %.0f s to see whether the run (%s) is still alive that left %s", wait, who, place)
    end = time.monotonic() + wait
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_SECONDS))
        now = _read(place)
        if now is None:
            return None
        if now.version != found.version:
            raise lives
    return found


def _lives_here(mark: dict[str, Any]) -> bool:
    """Whether a run of this very system is alive."""
    process = _process(mark)
    if process == os.getpid():
        return mark.get("token") in _held_here
    if process <= 0:
        return False
    status = _status_of(process)
    if status is None:  # there is no such process, or this system does not tell of it
        return is_running(process)
    state, started = status
    return state not in _ENDED and mark.get("started") == started


def _started(process: int) -> int | None:
    """When a process was started, in ticks of the system's clock: a number given to another process has another start."""
    status = _status_of(process)
    return status[1] if status else None


def _status_of(process: int) -> tuple[str, int] | None:
    """The state of a process as one letter, and when it was started."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return after_name[0], int(after_name[19])
    except (OSError, ValueError, IndexError):
        return None


def _system() -> str | None:
    """The boot and the container that process numbers belong to; None where the system does not say."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
