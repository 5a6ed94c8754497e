"""The processes below this one, by their titles: Ray names its workers after what they do."""

import os
import subprocess


def descendants(title: str, of: int | None = None) -> list[int]:
    """Process ids of the descendants of a process (default: this one) whose title begins like that."""
    root = of or os.getpid()
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for line in listed.splitlines()[1:]:
        pid, parent, args = line.split(None, 2)
        parents[int(pid)], titles[int(pid)] = int(parent), args

    def below(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return [pid for pid, args in titles.items() if args.startswith(title) and pid != root and below(pid)]
