"""The command lines of the manifests, run for real: submitted with the token to a cluster whose head has no CPUs."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from clipmill.encoders.names import BUILTIN_FOLDER
from infra.manifests import CONFIG, INFRA, REPOSITORY, document, entrypoints

ROWS = 60
EXPORT = """
import json, sys, time
import ray
from ray.util import metrics
listed = json.loads(sys.argv[2])
ray.init(address=sys.argv[1], log_to_driver=False)
for one in listed:
    made = getattr(metrics, one["kind"].title())(one["name"], description=one["help"], tag_keys=tuple(one["labels"]))
    tags = {label: "made-up" for label in one["labels"]}
    made.inc(3, tags=tags) if one["kind"] == "counter" else made.set(0.5, tags=tags)
node = ray.get_runtime_context().get_node_id()
(port,) = [node["MetricsExportPort"] for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id()]
print(port, flush=True)
sys.stdin.readline()
"""

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Running:
    """A cluster with token authentication, and the environment of who has its token."""

    address: str
    dashboard: str
    environment: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("home")
    sessions = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a longer path is too long for Ray's sockets
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(home), "RAY_TMPDIR": sessions, "CLIPMILL_FAKE_GPUS": "1"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    log = home / "nodes.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests/ray_nodes.py"), str(free_port()), str(free_port())],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("{"), log.read_text()
        found = json.loads(line)
        yield Running(found["address"], f"http://{found['dashboard']}", environment)
    finally:
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(sessions, ignore_errors=True)


@pytest.fixture(scope="module")
def local_config(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nightly configuration with local folders for its places in S3, and the built-in model for its weights."""
    folder = tmp_path_factory.mktemp("nightly")
    sample = ["clipmill", "sample", "--output", str(folder / "photos"), "--rows", str(ROWS), "--seed", "3"]
    subprocess.run(sample, env=cluster.environment, check=True, capture_output=True, timeout=120)
    text = CONFIG.read_text(encoding="utf-8")
    for shipped, here in (
        ("s3://example-photos/", folder / "photos"),
        ("s3://example-vectors/photos", folder / "out"),
        ("local-dir:/weights", f"local-dir:{BUILTIN_FOLDER}"),
    ):
        assert shipped in text
        text = text.replace(shipped, str(here))
    local = folder / "nightly.yaml"
    local.write_text(text, encoding="utf-8")
    return local


def submitted(cluster: Running, replaced: dict[str, str], timeout: float = 300) -> subprocess.CompletedProcess:
    """The CronJob's whole command line, with what lies elsewhere here replaced."""
    (container,) = document("cronjob/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    replaced = {"http://clipmill-head-svc:8265": cluster.dashboard, **replaced}
    assert replaced.keys() <= set(container["command"])
    line = [replaced.get(word, word) for word in container["command"]]
    return subprocess.run(
        line, env=cluster.environment, capture_output=True, text=True, timeout=timeout, check=False, cwd="/"
    )


def test_every_target_runs_the_same_command_line() -> None:
    assert set(map(tuple, entrypoints().values())) == {("clipmill", "run", "/config/nightly.yaml")}
    assert len(entrypoints()) == 4


def test_the_command_line_of_the_manifests_ends_in_a_whole_output(cluster: Running, local_config: Path) -> None:
    done = submitted(cluster, {"/config/nightly.yaml": str(local_config)})
    assert done.returncode == 0, done.stdout + done.stderr
    published = Path(yaml.safe_load(local_config.read_text())["output"])
    output = published / "runs" / json.loads((published / "current.json").read_text())["version"]
    for stage in ("embeddings", "index", "report"):
        verify = ["clipmill", "verify", str(output / stage), "--json"]
        checked = subprocess.run(
            verify, env=cluster.environment, capture_output=True, text=True, timeout=120, check=True
        )
        assert json.loads(checked.stdout)["whole"]
    assert json.loads((output / "embeddings/manifest.json").read_text())["counts"]["rows"] == ROWS
    assert (output / "report/report.html").is_file()


def test_a_job_that_fails_fails_its_submitter(cluster: Running, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.yaml")
    done = submitted(cluster, {"/config/nightly.yaml": absent})
    assert done.returncode != 0
    assert f"{absent}: cannot be read" in done.stdout + done.stderr


def test_our_metrics_have_the_names_of_the_dashboard_on_rays_endpoint(cluster: Running) -> None:
    listed = json.loads((INFRA / "grafana/metrics.json").read_text())
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT, cluster.address, json.dumps(listed["metrics"])],
        env=cluster.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        wanted = {listed["prefix"] + one["name"] for one in listed["metrics"]}
        exported: dict[str, str] = {}
        deadline = time.monotonic() + 90
        while not wanted <= set(exported) and time.monotonic() < deadline:
            time.sleep(1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                exported = dict(re.findall(r"^(\w+)\{(.*)\}", answer.read().decode(), flags=re.MULTILINE))
        assert wanted <= set(exported)
        assert all('SessionName="' in exported[name] for name in wanted), "the dashboard chooses the run by this label"
    finally:
        process.communicate("\n", timeout=60)
