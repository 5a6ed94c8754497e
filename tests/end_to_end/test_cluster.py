"""On a cluster of three nodes with token authentication: jobs are submitted, GPUs are shared, a node may die.

All tests share one cluster, and the last one kills a node of it: their order matters.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROWS, FEW = 3000, 1200
ENCODER = "Encoder"
ACTORS = """
import json, sys
from ray.util.state import list_actors
found = list_actors(address=sys.argv[1], detail=True, limit=1000)
fields = ("actor_id", "class_name", "node_id", "state", "required_resources")
print(json.dumps([{name: getattr(actor, name) for name in fields} for actor in found]))
"""

pytestmark = pytest.mark.cluster


@dataclass
class Nodes:
    """A running cluster, and the environment of a user who has its token."""

    process: subprocess.Popen
    environment: dict[str, str]
    address: str
    dashboard: str
    nodes: dict[str, str]

    def kill(self, name: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"kill {name}\n")
        self.process.stdin.flush()
        assert json.loads(self.process.stdout.readline()) == {"killed": name}

    def actors(self) -> list[dict[str, Any]]:
        """Every actor there was, with its node."""
        done = subprocess.run(
            [sys.executable, "-c", ACTORS, self.dashboard],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def encoders(self) -> list[dict[str, Any]]:
        return [actor for actor in self.actors() if ENCODER in actor["class_name"]]


def without_ray(home: Path) -> dict[str, str]:
    """This environment without anything of Ray's in it, and with a home that holds no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    home = tmp_path_factory.mktemp("home")
    sessions = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a longer path is too long for Ray's sockets
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment = {**without_ray(home), **token, "RAY_TMPDIR": sessions, "CLIPMILL_FAKE_GPUS": "1"}
    log = (home / "nodes.log").open("w")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "ray_nodes.py"), str(free_port()), str(free_port())],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("{"), (home / "nodes.log").read_text()
        found = json.loads(line)
        dashboard = f"http://{found['dashboard']}"
        yield Nodes(process, environment, found["address"], dashboard, found["nodes"])
    finally:
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(sessions, ignore_errors=True)


@pytest.fixture(scope="module")
def scenes(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    assert clipmill("sample", "--output", folder, "--rows", ROWS, "--seed", 6).code == 0
    return folder


def run(cluster: Nodes, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess:
    """One clipmill command, as a plain process of a user who has the token."""
    command = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
    done = subprocess.run(
        command, env=cluster.environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def submitted(cluster: Nodes, *arguments: object) -> list[str]:
    """The command line that submits a clipmill command as a job."""
    ray = str(Path(sys.executable).with_name("ray"))
    job = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
    return [ray, "job", "submit", "--address", cluster.dashboard, "--", *job]


def rows_of(output: Path) -> list[int]:
    rows: list[int] = pq.read_table(output / "images", columns=["row"]).column("row").to_pylist()
    return rows


@pytest.mark.parametrize("token", [None, "0" * 32], ids=["no token", "another token"])
def test_a_job_is_refused_without_the_token(token: str | None, cluster: Nodes, scenes: Path, tmp_path: Path) -> None:
    environment = without_ray(tmp_path)
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = submitted(cluster, "embed", "--input", scenes, "--output", tmp_path / "out", "--limit", 10)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "token" in (done.stdout + done.stderr).lower()
    assert not (tmp_path / "out").exists()


def test_a_command_without_the_token_is_told_so(cluster: Nodes, scenes: Path, tmp_path: Path) -> None:
    arguments = ["embed", "--input", str(scenes), "--output", str(tmp_path / "out"), "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-m", "clipmill_jobs", *arguments],
        env=without_ray(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "token" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def embedded(cluster: Nodes, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings made by a plain process with `--address` and no other option of the cluster."""
    output = tmp_path_factory.mktemp("embedded") / "out"
    done = run(cluster, "embed", "--input", scenes, "--output", output, "--address", cluster.address, "--json")
    assert done.returncode == 0, done.stderr
    return output


def test_defaults_are_right_with_a_head_without_cpus(cluster: Nodes, embedded: Path, clipmill: Callable) -> None:
    assert rows_of(embedded) == list(range(ROWS))
    assert clipmill("verify", embedded).code == 0
    hardware = json.loads((embedded / "manifest.json").read_text())["hardware"]
    assert (hardware["nodes"], hardware["cpus"], hardware["gpus"]) == (3, 4, 1)
    assert {actor["node_id"] for actor in cluster.encoders()} == {cluster.nodes["gpu"]}


def test_an_index_is_built_on_a_cluster_with_a_head_without_cpus(
    cluster: Nodes, embedded: Path, tmp_path: Path, clipmill: Callable
) -> None:
    arguments = ["--embeddings", embedded, "--output", tmp_path / "index", "--factory", "IVF16,Flat", "--shards", 2]
    done = run(cluster, "index", *arguments, "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    verified = clipmill("verify", tmp_path / "index", "--json").document
    assert verified["whole"]
    assert verified["checked"]["rows compared with the embeddings"] == ROWS


def test_two_encoders_share_a_gpu(cluster: Nodes, scenes: Path, tmp_path: Path, clipmill: Callable) -> None:
    before = {actor["actor_id"] for actor in cluster.encoders()}
    options = ["--address", cluster.address, "--num-gpu-actors", 2, "--gpus-per-actor", 0.5, "--limit", FEW]
    done = run(cluster, "embed", "--input", scenes, "--output", tmp_path / "out", *options, "--json")
    assert done.returncode == 0, done.stderr
    encoders = [actor for actor in cluster.encoders() if actor["actor_id"] not in before]
    assert len(encoders) == 2
    assert {actor["node_id"] for actor in encoders} == {cluster.nodes["gpu"]}
    assert [actor["required_resources"]["GPU"] for actor in encoders] == [0.5, 0.5]
    assert clipmill("verify", tmp_path / "out").code == 0
    assert rows_of(tmp_path / "out") == list(range(FEW))


def test_more_of_a_gpu_than_a_node_has_is_refused(cluster: Nodes, scenes: Path, tmp_path: Path) -> None:
    options = ["--address", cluster.address, "--gpus-per-actor", 2]
    done = run(cluster, "embed", "--input", scenes, "--output", tmp_path / "out", *options)
    assert done.returncode == 2
    assert "--gpus-per-actor 2" in done.stderr


def test_a_submitted_job_finishes_though_a_node_is_killed(
    cluster: Nodes, scenes: Path, tmp_path: Path, clipmill: Callable
) -> None:
    output = tmp_path / "out"
    job = subprocess.Popen(
        submitted(cluster, "embed", "--input", scenes, "--output", output, "--json"),
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for_units(tmp_path / ".out.staging", 1, job)
    cluster.kill("cpu")
    assert not output.exists(), "the job was done before the node was killed: give it more rows"
    said, _ = job.communicate(timeout=400)
    assert job.returncode == 0, said
    assert json.loads((output / "manifest.json").read_text())["counts"]["rows"] == ROWS
    assert rows_of(output) == list(range(ROWS))
    assert clipmill("verify", output).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def wait_for_units(staging: Path, count: int, job: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if len(list(staging.glob("*/units/*/*.arrow"))) >= count:
            return
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.05)
    pytest.fail("the job committed nothing")
