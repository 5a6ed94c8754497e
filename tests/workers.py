"""Worker processes of this process's Ray cluster, found by what they are doing, to be killed or stopped."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def workers(doing: str) -> list[int]:
    """Processes below this one that run the task or actor method called ``doing``."""
    mine = {os.getpid()}
    found = []
    for process, parent, title in sorted(_processes()):
        if parent in mine:
            mine.add(process)
            if title.startswith(f"ray::{doing}"):
                found.append(process)
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(folder.name), int(after_name[1]), title


@contextmanager
def struck(doing: str, number: signal.Signals, times: int) -> Iterator[list[int]]:
    """Sends a signal to the first workers that are seen ``doing`` something while the block runs; yields these."""
    hit: list[int] = []
    ended = threading.Event()

    def strike() -> None:
        while len(hit) < times and not ended.is_set():
            for process in workers(doing):
                if process not in hit and len(hit) < times:
                    os.kill(process, number)
                    hit.append(process)
            time.sleep(0.002)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    try:
        yield hit
    finally:
        ended.set()
        thread.join()
