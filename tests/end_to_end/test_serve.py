"""`clipmill serve` on Ray Serve: the answers of `search`, through kills of replicas and shards, a new version, and the end.

All tests share one service, and the last one ends it: their order matters.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

import clipmill
from end_to_end.conftest import Ended

ROWS = 400
TOKEN = "end-to-end-token-0123456789"
QUERIES = ("a red circle", "two green triangles", "a blue star")

pytestmark = pytest.mark.cluster


@dataclass
class Running:
    """The service, where it is, and where its data are."""

    process: subprocess.Popen[str]
    address: str
    folder: Path
    wrong: list[str] = field(default_factory=list)

    def ask(self, **asked: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.post(f"{self.address}v1/search", json=asked, headers=headers, timeout=120)

    def processes(self, name: str) -> list[int]:
        """Replicas of a deployment on this machine that belong to this service."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    group = os.getsid(int(folder.name))
                except OSError:
                    continue
                if f"ServeReplica:clipmill:{name}" in title and group == os.getsid(self.process.pid):
                    found.append(int(folder.name))
        return found


@pytest.fixture(scope="module")
def running(clipmill: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serve")
    steps: list[list[object]] = [
        ["sample", "--output", folder / "in", "--rows", ROWS, "--seed", 5],
        ["run", folder / "run.yaml"],
    ]
    (folder / "run.yaml").write_text(f"output: {folder / 'out'}\nembed:\n  input: {folder / 'in'}\n")
    divided = ["index", "--embeddings", folder / "out", "--output", folder / "divided", "--factory", "IVF8,PQ32x4fsr"]
    for step in (*steps, [*divided, "--shards", 3]):
        done = clipmill(*step)
        assert done.code == 0, done.err
    (folder / "tokens").write_text(f"tests: {TOKEN}\n")
    places = [f"divided={folder / 'divided'}", f"photos={folder / 'out'}"]
    options = ["--port", "8391", "--shard-memory", "10KB", "--cpus", "2", "--token-file", str(folder / "tokens")]
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmill_jobs", "serve", *places, *options],
        stdout=subprocess.PIPE,
        stderr=(folder / "told").open("w"),
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("http://localhost:"), (folder / "told").read_text()
    yield Running(process, line, folder)
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=60)


def found(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [result["id"] for result in response.json()["results"]]


@pytest.mark.parametrize("where", [None, "objects = 2", "size = 'large' and objects < 3"])
@pytest.mark.parametrize("name", ["divided", "photos"])
def test_answers_are_those_of_search(running: Running, name: str, where: str | None) -> None:
    index = clipmill.open_index(running.folder / {"divided": "divided", "photos": "out"}[name])
    for text in QUERIES:
        expected = [hit.id for hit in index.search(text, k=10, where=where)]
        assert found(running.ask(index=name, text=text, k=10, where=where)) == expected


def test_shards_are_held_by_processes_of_their_own(running: Running) -> None:
    assert [len(running.processes(f"shards-{number}")) for number in range(3)] == [1, 1, 1]
    assert len(running.processes("encoder")) == 1


def test_without_a_token_nobody_is_answered(running: Running) -> None:
    assert requests.post(f"{running.address}v1/search", json={"text": "x"}, timeout=60).status_code == 401
    assert requests.get(f"{running.address}healthz", timeout=60).status_code == 200


@pytest.mark.parametrize("name", ["shards-1", "encoder", "service"])
def test_a_process_that_is_killed_is_started_again_and_no_answer_is_wrong(running: Running, name: str) -> None:
    index = clipmill.open_index(running.folder / "divided")
    expected = [hit.id for hit in index.search(QUERIES[0], k=10)]
    vector = index._encoded(QUERIES[0])[0][0].tolist()
    (killed,) = running.processes(name)
    os.kill(killed, signal.SIGKILL)
    ends = time.monotonic() + 90
    good = 0
    while good < 20:
        assert time.monotonic() < ends
        query = {"text": QUERIES[0]} if name == "encoder" else {"vector": vector}
        response = running.ask(index="divided", k=10, **query)
        if response.status_code == 200:
            assert found(response) == expected
            good += 1
        else:
            assert response.status_code == 503, response.text
            assert int(response.headers["Retry-After"]) > 0
            assert response.json()["status"] == 503
            good = 0
            time.sleep(0.2)
    assert killed not in running.processes(name)


def test_a_new_version_is_read_with_no_request_failed(running: Running, clipmill: Callable[..., Ended]) -> None:
    before = running.ask(index="photos", text="x").json()["version"]
    stop, failed, versions = threading.Event(), [], set()

    def load() -> None:
        while not stop.is_set():
            response = running.ask(index="photos", text="a star", k=5)
            if response.status_code != 200:
                failed.append(response.text)
            else:
                versions.add(response.json()["version"])

    thread = threading.Thread(target=load)
    thread.start()
    try:
        sample = clipmill("sample", "--output", running.folder / "more", "--rows", 50, "--seed", 6)
        assert sample.code == 0
        for file in (running.folder / "more").glob("*.parquet"):
            file.rename(running.folder / "in" / f"more-{file.name}")
        (running.folder / "in/manifest.json").unlink()
        done = clipmill("run", running.folder / "run.yaml")
        assert done.code == 0, done.err
        new = json.loads((running.folder / "out/current.json").read_text())["version"]
        ends = time.monotonic() + 60
        while new not in versions:
            assert time.monotonic() < ends
            time.sleep(0.2)
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert versions == {before, new}
    assert running.ask(index="photos", text="x").json()["n"] == ROWS + 50


def test_sigterm_ends_it_after_what_was_begun(running: Running) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(running.ask(index="photos", text="x", k=100).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    running.process.terminate()
    for thread in threads:
        thread.join()
    assert running.process.wait(timeout=90) == 0
    assert set(answers) == {200}
    told = (running.folder / "told").read_text()
    assert "ending, once what was begun is answered" in told
    assert "Traceback" not in told
    assert running.processes("service") == []
