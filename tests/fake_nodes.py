"""A Ray cluster that scales from zero on this machine: a real autoscaler, and fake nodes that it starts and ends.

The autoscaler's own provider of fake nodes takes its defaults from a file that the wheel lacks; as an external provider
it needs none, and works with both autoscalers.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._private.ray_constants import RESOURCES_ENVIRONMENT_VARIABLE
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

COMMANDS = ("-m", "clipmill_jobs")
_BYTES = 150 << 20
_MEMORY = 4 << 30
_HERE = str(Path(__file__).parent)
_HEAD = "ray.head.default"


class FakeNodes(FakeMultiNodeProvider):
    """Nodes that are processes of this machine. The autoscaler imports it by name."""

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: Mapping[str, float], labels: Any
    ) -> Any:
        """Their memory is that of their type, as a machine's is. Without it each has what is free when it starts, so that
        no two are alike, and Ray Data asks for more nodes like them, which no type has."""
        os.environ[RESOURCES_ENVIRONMENT_VARIABLE] = json.dumps({"memory": resources["memory"]})
        held = {name: amount for name, amount in resources.items() if name != "memory"}
        return super().create_node_with_resources_and_labels(node_config, tags, count, held, labels)


@dataclass(frozen=True)
class ScalingCluster:
    """A head without CPUs; ``environment`` is that of a user who has its token."""

    address: str
    dashboard: str
    folder: Path
    environment: dict[str, str]

    def clipmill(self, *arguments: object, timeout: float = 200) -> subprocess.CompletedProcess:
        """A command of a user, who names the cluster by --address or not."""
        return subprocess.run(
            command_line(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: object, program: Sequence[str] = COMMANDS) -> subprocess.Popen:
        """The same, without waiting for its end."""
        line = command_line(*arguments, program=program)
        return subprocess.Popen(line, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that there are: their ids and resources."""
        found = self._ask("nodes")
        return [
            {"id": node["node_id"], "resources": node["resources_total"]} for node in found if node["state"] == "ALIVE"
        ]

    def encoders(self) -> list[dict[str, Any]]:
        """Every encoder there was: id, node, state, and what it asked Ray for."""
        return [
            {"id": one["actor_id"], "node": one["node_id"], "state": one["state"], "asked": one["required_resources"]}
            for one in self._ask("actors")
            if "Encoder" in one["class_name"]
        ]

    def kill(self, node: str) -> None:
        """Ends the processes of a fake node at once, as a machine that is taken away."""
        listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            pid, _, arguments = line.strip().partition(" ")
            if "/raylet/raylet" in arguments and str(self.folder) in arguments and _environment_of(pid, node):
                os.kill(int(pid), signal.SIGKILL)

    def _ask(self, what: str) -> list[dict[str, Any]]:
        """What the dashboard lists; `ray.util.state` would do the same in a process of its own."""
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"{self.dashboard}/api/v0/{what}?detail=1&limit=1000", headers=token)
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        listed: list[dict[str, Any]] = told["data"]["result"]["result"]
        return listed


def command_line(*arguments: object, program: Sequence[str] = COMMANDS) -> list[str]:
    return [sys.executable, *program, *(str(argument) for argument in arguments)]


def _environment_of(pid: str, node: str) -> bool:
    try:
        return f"RAY_OVERRIDE_NODE_ID_FOR_TESTING={node}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@contextmanager
def scaling_cluster(
    types: Mapping[str, tuple[dict[str, int], int]], *, newer: bool = False
) -> Iterator[ScalingCluster]:
    """A cluster of these node types: their resources, and how many nodes there may be; none is up at first.

    ``newer`` takes the autoscaler of KubeRay in place of that of `ray up`.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-fake-", dir="/tmp"))  # a longer path is too long for Ray's sockets
    port, dashboard, *others = _free_ports(5)
    config = folder / "autoscaling.json"
    here = _address()
    config.write_text(json.dumps(_configuration(types, f"{here}:{port}")))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    paths = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), _HERE]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    user = {**kept, **token, "HOME": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    nodes = {**user, "RAY_FAKE_CLUSTER": "1", "CLIPMILL_FAKE_GPUS": "1", "RAY_enable_autoscaler_v2": str(int(newer))}
    nodes |= {
        "RAY_num_workers_soft_limit": "8",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_worker_niceness": "0",
    }
    if newer:
        nodes |= {"RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID, "RAY_NODE_TYPE_NAME": _HEAD}
        nodes |= {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID}
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={others[0]}"]
    ports += [f"--ray-client-server-port={others[1]}", f"--runtime-env-agent-port={others[2]}"]
    process = subprocess.Popen(
        [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0", "--num-gpus=0"),
            *(*ports, "--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={100 << 20}"),
            *(f"--temp-dir={folder}", f"--autoscaling-config={config}"),
        ],
        env=nodes,
        stdout=(folder / "head.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _wait_for(here, port, process, folder / "head.log")
        _wait_for("127.0.0.1", dashboard, process, folder / "head.log")
        found = ScalingCluster(f"{here}:{port}", f"http://127.0.0.1:{dashboard}", folder, user)
        deadline = time.monotonic() + 90
        while not found.nodes() and time.monotonic() < deadline:
            time.sleep(0.5)
        yield found
    finally:
        _end_all(folder)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(types: Mapping[str, tuple[dict[str, int], int]], address: str) -> dict[str, Any]:
    declared: dict[str, Any] = {_HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}}
    for name, (resources, most) in types.items():
        held = {**resources, "memory": _MEMORY, "object_store_memory": _BYTES}
        declared[name] = {"resources": held, "node_config": {}, "min_workers": 0, "max_workers": most}
    commands = ["initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray"]
    return {
        "cluster_name": "fake",
        "max_workers": 8,
        "idle_timeout_minutes": 10,
        "upscaling_speed": 10.0,
        "provider": {
            "type": "external",
            "module": "fake_nodes.FakeNodes",
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "head_node_type": _HEAD,
        "available_node_types": declared,
        **{f"{name}_commands": [] for name in commands},
    }


def _address() -> str:
    """This machine's address as Ray chooses it."""
    import ray

    return str(ray.util.get_node_ip_address())


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for(host: str, port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            socket.create_connection((host, port), timeout=1).close()
            return
        time.sleep(0.2)
    raise RuntimeError(log.read_text()[-2000:])


def _end_all(folder: Path) -> None:
    """Ends every process of this cluster, the monitor first: it would bring new nodes. They are known by their home, or are
    children of such, since a process that changes its title loses its environment from sight."""
    for title in (b"monitor.py", b""):
        found = {int(process.name): process for process in Path("/proc").iterdir() if process.name.isdigit()}
        mine = {pid for pid, process in found.items() if f"HOME={folder}".encode() in _read(process / "environ")}
        grown = True
        while grown:
            below = {pid for pid, process in found.items() if _parent(process) in mine}
            grown = not below <= mine
            mine |= below
        for pid in mine - {os.getpid()}:
            if title in _read(found[pid] / "cmdline"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _parent(process: Path) -> int:
    fields = _read(process / "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
