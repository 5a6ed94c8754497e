"""One run at a time works on a staging folder: a mark beside it says who, and is renewed while they live.

The mark is only ever written over the version that was seen before, so of two runs that want it one gets it, and a run
that lost it, because it was asleep or cut off for too long, finds out before it publishes.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import ClipmillError, RunFailed, UserError
from pipeline.storage import Location, Versioned

_RENEW_SECONDS = 20.0
_STALE_SECONDS = 90.0
_TAKING_ATTEMPTS = 3

_held_here: set[str] = set()
"""Tokens of the marks that this process holds now."""


class Ownership:
    """A held mark, renewed by a thread of its own."""

    def __init__(self, place: Location, token: str, version: str) -> None:
        self._place = place
        self._token = token
        self._version = version
        self._lost = False
        self._writing = threading.Lock()

    def check(self) -> None:
        """Renews the mark; to be called right before publishing.

        Raises RunFailed when another run has taken it, and what the storage raises when it cannot be renewed.
        """
        with self._writing:
            if not self._lost:
                version = storage.write_if(self._place, _statement(self._token), self._version)
                self._lost = version is None
                self._version = version or self._version
            if self._lost:
                raise RunFailed(
                    f"another run took over the work towards this output, since this one gave no sign of life for "
                    f"{_STALE_SECONDS:.0f} seconds (its mark {self._place} is gone); nothing was published by this one: "
                    "let the other finish, or run this again when it has ended"
                )

    def keep(self, stopped: threading.Event) -> None:
        """Renews the mark until stopped; a fault of the storage only makes it try again."""
        while not stopped.wait(_RENEW_SECONDS):
            try:
                self.check()
            except (ClipmillError, OSError):
                if self._lost:
                    return

    def give_back(self) -> None:
        """Removes the mark if it is still this run's."""
        with suppress(ClipmillError, OSError), self._writing:
            if not self._lost and storage.read_versioned(self._place).version == self._version:
                storage.remove(self._place)


@contextmanager
def owned(staging: Location) -> Iterator[Ownership]:
    """Holds a staging folder for the length of the block; `Ownership.check` says whether it is still held.

    Raises UserError when another run holds it: a live process of this host, or one elsewhere, that renewed its mark in
    the last minute and a half. A mark left by a dead run is taken over.
    """
    place = staging.sibling(f"{staging.name}.owner.json")
    token = uuid.uuid4().hex
    _held_here.add(token)
    try:
        ownership = Ownership(place, token, _take(place, token))
        stopped = threading.Event()
        thread = threading.Thread(target=ownership.keep, args=[stopped], name="owner", daemon=True)
        thread.start()
        try:
            yield ownership
        finally:
            stopped.set()
            thread.join(_RENEW_SECONDS)
            ownership.give_back()
    finally:
        _held_here.discard(token)


def _take(place: Location, token: str) -> str:
    """The version of the mark just written. Raises UserError where another run holds it."""
    for _ in range(_TAKING_ATTEMPTS):
        found = _read(place)
        if found is not None:
            _refuse_living(place, found)
        version = storage.write_if(place, _statement(token), found.version if found else None)
        if version is not None:
            return version
    raise UserError(f"another run began to work towards the same output just now (its mark is {place}); wait for it")


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


def _refuse_living(place: Location, found: Versioned) -> None:
    try:
        owner: dict[str, Any] = dict(json.loads(found.data))
    except (ValueError, TypeError):
        return
    if found.age < _STALE_SECONDS and _may_live(owner):
        raise UserError(
            f"another run (process {owner.get('process')} on {owner.get('host')}) is working towards the same output; "
            f"wait for it, or stop it and run this again (its mark {place} lapses {_STALE_SECONDS - found.age:.0f} seconds "
            "from now if it was killed)"
        )


def _may_live(owner: dict[str, Any]) -> bool:
    """Whether the run may be alive; only of a process of this very system can be known that it is not."""
    if (owner.get("host"), owner.get("system")) != (socket.gethostname(), _system()):
        return True
    process = int(owner.get("process", 0))
    if process == os.getpid():
        return owner.get("token") in _held_here
    return process > 0 and _is_alive(process) and owner.get("started") == _started(process)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(process: int) -> int | None:
    """When a process was started, in ticks of the system's clock: a number given to another process has another start."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[19])
    except (OSError, ValueError, IndexError):
        return None


def _system() -> str | None:
    """The boot and the container that process numbers belong to; None where the system does not say."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
