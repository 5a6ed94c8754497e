"""One run at a time works on a staging folder: a file in it says who, and is renewed while they live."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import Location

_RENEW_SECONDS = 20.0
_STALE_SECONDS = 90.0


@contextmanager
def owned(staging: Location) -> Iterator[None]:
    """Holds a staging folder for the length of the block.

    Raises UserError when another run holds it: a live process of this host, or one elsewhere that renewed its file in
    the last minute and a half. A file left by a dead run is taken over.
    """
    place = staging.sibling(f"{staging.name}.owner.json")
    _refuse_other(place)
    token = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
    stopped = threading.Event()

    def renew() -> None:
        while not stopped.wait(_RENEW_SECONDS):
            storage.write_bytes(place, _statement(token))

    storage.write_bytes(place, _statement(token))
    thread = threading.Thread(target=renew, name="owner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_RENEW_SECONDS)
        storage.remove(place)


def _statement(token: str) -> bytes:
    return json.dumps(
        {"host": socket.gethostname(), "process": os.getpid(), "token": token, "renewed": time.time()}
    ).encode()


def _refuse_other(place: Location) -> None:
    try:
        owner: dict[str, Any] = json.loads(storage.read_bytes(place))
    except (FileNotFoundError, ValueError):
        return
    here = owner.get("host") == socket.gethostname()
    alive = _is_alive(int(owner.get("process", 0))) if here else time.time() - owner.get("renewed", 0) < _STALE_SECONDS
    if alive:
        raise UserError(
            f"another run (process {owner.get('process')} on {owner.get('host')}) is working towards the same output; "
            f"wait for it, or stop it and run this again (its mark is {place})"
        )


def _is_alive(process: int) -> bool:
    if process in (0, os.getpid()):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
