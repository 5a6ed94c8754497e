"""Commands in forks of this process, which end or pause before a change that they make to the disk or to S3."""

from __future__ import annotations

import io
import os
import select
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DIED = 77
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = frozenset(("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"))


@dataclass
class Counter:
    """Counts changes below a folder and to S3, and ends the process at one of them."""

    folder: str
    at: int | None
    pause: tuple[int, int] | None = None
    """Where to say that it has come to the change, and what to wait for then, instead of ending."""
    seen: int = 0
    described: list[str] = field(default_factory=list)

    def change(self, what: str) -> None:
        """One more; the process ends where it is the one."""
        here, self.seen = self.seen, self.seen + 1
        if here == self.at:
            if self.pause is None:
                os._exit(DIED)
            os.write(self.pause[0], b".")
            os.read(self.pause[1], 1)
        self.described.append(what)

    def watch(self, watched: str) -> None:
        """Counts from now on what this process changes on the ``disk``, or by requests to ``s3``."""
        if watched == "disk":
            sys.addaudithook(self.audit)
            return
        from botocore.httpsession import URLLib3Session

        send = URLLib3Session.send

        def counted(session: URLLib3Session, request: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                self.change(f"{request.method} {urlsplit(request.url).path}")
            return send(session, request)

        URLLib3Session.send = counted

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """A hook for `sys.addaudithook`."""
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and bool(flags & _WRITING)
        else:
            changes = event in _CHANGES
            path = arguments[0] if arguments else None
        if changes and isinstance(path, (str, bytes, os.PathLike)):
            place = os.path.abspath(os.fsdecode(path))
            if place.startswith(self.folder):
                self.change(f"{event} {place[len(self.folder) :]}")


@dataclass(frozen=True)
class Forked:
    """A command in a fork of this process."""

    process: int
    output: int

    def wait(self) -> tuple[int, str]:
        """Its exit code and what it printed, once it has ended."""
        with os.fdopen(self.output, "rb") as stream:
            text = stream.read().decode(errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1]), text

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends before so much time has passed."""
        readable, _, _ = select.select([self.output], [], [], seconds)
        return bool(readable)


def start(
    arguments: Sequence[str],
    folder: Path,
    at: int | None = None,
    *,
    count: bool = False,
    pause: tuple[int, int] | None = None,
    watched: str = "disk",
) -> Forked:
    """Starts a command that ends, or pauses, at a change; with ``count`` the changes are what it prints."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        _become(
            arguments,
            folder,
            Counter(f"{folder}{os.sep}", at, pause),
            write,
            watched if count or at is not None else None,
            count=count,
        )
    os.close(write)
    return Forked(process, read)


def run_forked(
    arguments: Sequence[str], folder: Path, at: int | None = None, *, count: bool = False, watched: str = "disk"
) -> tuple[int, str]:
    """Exit code and output of a command that ends at a change."""
    return start(arguments, folder, at, count=count, watched=watched).wait()


def _become(
    arguments: Sequence[str], folder: Path, counter: Counter, pipe: int, watched: str | None, *, count: bool
) -> None:
    from clipmill_jobs.__main__ import main

    code: object = 1
    text = io.StringIO()
    try:
        os.chdir(folder)
        sys.stdout = sys.stderr = text
        if watched is not None:
            counter.watch(watched)
        main(list(arguments), standalone_mode=True)
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        text.write(traceback.format_exc())
    with os.fdopen(pipe, "wb") as stream:
        stream.write(("\n".join(counter.described) if count else text.getvalue()).encode())
    os._exit(code if isinstance(code, int) else 1)
