"""A node that is cut off from the network in the middle of a run, for a minute and for good: every row once.

Nodes are network namespaces with addresses of their own. The node that is cut off goes on by itself meanwhile, and writes
to the disk that it shares with the others: what it commits is what they commit.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hosts import Host, hosts, hosts_allowed

pytestmark = [pytest.mark.cluster, pytest.mark.long]
ROWS, LIMIT, PORT = 8_000, 560, 6399
CUT_SECONDS = 60


@dataclass
class Cluster:
    head: Host
    workers: list[Host]
    environment: dict[str, str]

    def start(self, *arguments: object) -> subprocess.Popen:
        line = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
        return subprocess.Popen(
            self.head.command(*line),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and two nodes of one."""
    if not hosts_allowed():
        pytest.skip("no network namespaces here: run as root")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_worker_niceness": "0"}
    environment = {**kept, **token, "HOME": str(folder)}
    with hosts(3) as (head, *workers):
        try:
            common = ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
            started = ["--head", f"--port={PORT}", f"--node-ip-address={head.address}", "--num-cpus=0"]
            _ray_start(head, environment, folder / "head", *started, *common, f"--temp-dir={folder / 'h'}")
            for number, worker in enumerate(workers):
                joined = [f"--address={head.address}:{PORT}", f"--node-ip-address={worker.address}", "--num-cpus=1"]
                _ray_start(worker, environment, folder / f"{number}", *joined, *common)
            yield Cluster(head, workers, environment)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _ray_start(host: Host, environment: dict[str, str], log: Path, *options: str) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    line = host.command(ray, "start", f"--object-store-memory={150 << 20}", *options)
    with log.open("w") as stream:
        done = subprocess.run(line, env=environment, stdout=stream, stderr=stream, timeout=180, check=False)
    assert done.returncode == 0, log.read_text()


@pytest.fixture(scope="module")
def scenes(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    assert clipmill("sample", "--output", folder, "--rows", ROWS, "--seed", 9).code == 0
    return folder


@pytest.mark.parametrize("comes_back", [True, False], ids=["for a minute", "for good"])
def test_a_node_that_is_cut_off_costs_no_row(
    comes_back: bool, cluster: Cluster, scenes: Path, tmp_path: Path, clipmill: Callable
) -> None:
    output = tmp_path / "out"
    job = cluster.start(
        *("embed", "--input", scenes, "--output", output, "--address", f"{cluster.head.address}:{PORT}")
    )
    _wait_for_units(tmp_path / ".out.staging", 3, job)
    cluster.workers[1].cut_off()
    assert not output.exists(), "the run was done before the node was cut off: give it more rows"
    if comes_back:
        time.sleep(CUT_SECONDS)
        cluster.workers[1].connect()
    said, _ = job.communicate(timeout=LIMIT)
    assert job.returncode == 0, said
    rows = pq.read_table(output / "images", columns=["row"]).column("row").to_pylist()
    assert sorted(rows) == sorted(set(rows))
    assert len(rows) == ROWS
    assert clipmill("verify", output).code == 0


def _wait_for_units(staging: Path, count: int, job: subprocess.Popen) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if len(list(staging.glob("*/units/*/*.arrow"))) >= count:
            return
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.1)
    pytest.fail("the run committed nothing")
