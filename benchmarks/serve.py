"""What the service adds to an index: queries a CPU second of the bare index in batches, and of the service over it.

    python -m benchmarks.serve --index index/ --queries queries.npy              # clipmill explore
    python -m benchmarks.serve --index index/ --queries queries.npy --command serve

Each request holds 64 vectors as a .npy file and asks for the ten best of each; CPU seconds are those of all processes of the
service, Ray's included. With --text it asks for words instead, one at a time, at half of the highest rate that it finds. With
--overload SECONDS many connections ask for words without a pause: what is answered and refused, what memory grows to, and how
soon the next request is answered.
"""

import argparse
import http.client
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from clipmill.core.startup import prepare_process
from clipmill.index.search.open import open_index

BATCH, K = 64, 10
WORDS = [
    "red",
    "green",
    "blue",
    "large",
    "small",
    "circle",
    "star",
    "triangle",
    "heart",
    "on",
    "above",
    "plain",
    "striped",
]


@dataclass(frozen=True)
class Service:
    port: int
    session: int

    def cpu_seconds(self) -> float:
        """Of every process in the session of the command."""
        total = 0.0
        for folder in Path("/proc").iterdir():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[3]) == self.session:
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def memory(self) -> int:
        """Proportional resident bytes of all processes: what they share counts once."""
        total = 0
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and os.getsid(int(folder.name)) == self.session:
                    rollup = (folder / "smaps_rollup").read_text()
                    total += int(rollup.split("Pss:", 1)[1].split()[0]) * 1024
            except (OSError, IndexError):
                continue
        return total


@contextmanager
def running(command: str, index: str, port: int) -> Iterator[Service]:
    more = ["--no-browser"] if command == "explore" else []
    line = [sys.executable, "-m", "clipmill_jobs", command, index, "--port", str(port), *more]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    if not process.stdout.readline().startswith("http"):
        raise SystemExit("the service did not start")
    try:
        yield Service(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


def bare(index: str, queries: np.ndarray) -> float:
    """Queries a CPU second, in batches, on one thread."""
    faiss.omp_set_num_threads(1)
    opened = open_index(index)
    opened.search(queries[:BATCH], K)
    started = time.process_time()
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        _, positions = opened.search(batch / np.linalg.norm(batch, axis=1, keepdims=True), K)
        opened.rows_at(positions)
    return len(queries) / (time.process_time() - started)


def served(service: Service, queries: np.ndarray, connections: int, rounds: int) -> tuple[float, float]:
    """Queries a second, and a CPU second of the service."""
    bodies = []
    for start in range(0, len(queries), BATCH):
        stream = io.BytesIO()
        np.save(stream, queries[start : start + BATCH])
        bodies.append(stream.getvalue())

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("localhost", service.port)
        for body in bodies[first::connections] * rounds:
            connection.request("POST", f"/v1/vectors?k={K}", body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status

    ask(len(bodies) - 1)
    before, started = service.cpu_seconds(), time.perf_counter()
    threads = [threading.Thread(target=ask, args=(first,)) for first in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - started, service.cpu_seconds() - before
    return rounds * len(queries) / seconds, rounds * len(queries) / cpu


def texts(service: Service, seconds: float) -> dict[str, object]:
    """The median of one text at a time, the highest rate of eight at a time, and the times at half of that rate."""
    rng = np.random.default_rng(0)
    times: list[float] = []
    codes: Counter[int] = Counter()
    local = threading.local()

    def ask() -> None:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("localhost", service.port)
        body = json.dumps({"text": f"{' '.join(rng.choice(WORDS, 6))} {rng.integers(10**6)}", "k": K})
        started = time.perf_counter()
        local.connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
        answer = local.connection.getresponse()
        answer.read()
        codes[answer.status] += 1
        times.append(time.perf_counter() - started)

    def keep_asking(until: float, gap: float, due: float) -> None:
        while (now := time.perf_counter()) < until:
            if now < due:
                time.sleep(due - now)
            ask()
            due += gap

    def run(threads: int, rate: float | None) -> list[float]:
        times.clear()
        begin = time.perf_counter()
        gap = threads / rate if rate else 0.0
        asking = [
            threading.Thread(target=keep_asking, args=(begin + seconds, gap, begin + gap * number / threads))
            for number in range(threads)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        return sorted(times)

    alone = statistics.median(run(1, None))
    highest = len(run(8, None)) / seconds
    half = run(16, highest / 2)
    return {
        "unloaded median, ms": round(alone * 1000, 1),
        "highest rate a second": round(highest),
        "p99 at half of it, ms": round(half[int(len(half) * 0.99)] * 1000, 1),
        "answers": dict(codes),
    }


def overload(service: Service, seconds: float, connections: int = 200) -> dict[str, object]:
    """So many connections that each ask again at once, and again at once where they are refused."""
    codes: Counter[int] = Counter()
    until = time.perf_counter() + seconds

    def keep_asking(number: int) -> None:
        rng = np.random.default_rng(number)
        connection = http.client.HTTPConnection("localhost", service.port)
        while time.perf_counter() < until:
            body = json.dumps({"text": f"{' '.join(rng.choice(WORDS, 6))} {rng.integers(10**6)}", "k": K})
            try:
                connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                codes[answer.status] += 1
            except (OSError, http.client.HTTPException):
                codes[0] += 1
                connection.close()

    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    held = []
    while time.perf_counter() < until:
        time.sleep(min(5.0, seconds / 20))
        held.append(service.memory())
    for thread in threads:
        thread.join()
    started = time.perf_counter()
    connection = http.client.HTTPConnection("localhost", service.port)
    connection.request("POST", "/v1/search", json.dumps({"text": "red"}), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    return {
        "answers": {code or "none": count for code, count in sorted(codes.items())},
        "memory of all processes, MB": [round(size / 1e6) for size in (held[len(held) // 10], held[-1], max(held))],
        "the next request": {"status": status, "ms": round((time.perf_counter() - started) * 1000)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    parser.add_argument("--queries", help="a .npy file of vectors")
    parser.add_argument("--command", choices=["explore", "serve"], default="explore")
    parser.add_argument("--halves", action="store_true", help="send vectors as float16")
    parser.add_argument("--text", action="store_true", help="ask with words")
    parser.add_argument("--overload", type=float, metavar="SECONDS", help="ask without a pause for so long")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=8177)
    told = parser.parse_args()
    prepare_process()
    found: dict[str, object] = {}
    if told.queries:
        queries = np.load(told.queries).astype(np.float32)
        found["bare"] = round(bare(told.index, queries))
    with running(told.command, told.index, told.port) as service:
        if told.queries:
            sent = queries.astype(np.float16) if told.halves else queries
            rate, each_cpu_second = served(service, sent, told.connections, told.rounds)
            found |= {"queries a second": round(rate), "queries a CPU second": round(each_cpu_second)}
        if told.text:
            found["text"] = texts(service, told.seconds)
        if told.overload:
            found["overload"] = overload(service, told.overload)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
