"""On clusters that scale from zero, by a real autoscaler over fake nodes: encoders get GPUs because they are asked for."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import waiting_encoder
from fake_nodes import ScalingCluster, scaling_cluster

pytestmark = pytest.mark.cluster
ROWS, MANY = 300, 50 * waiting_encoder.ROWS_A_UNIT
GPU_NODE = {"CPU": 2, "GPU": 1}
LIMIT = 500


@pytest.fixture(scope="module")
def scenes(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    assert clipmill("sample", "--output", folder, "--rows", ROWS, "--seed", 6).code == 0
    return folder


@pytest.fixture(scope="module")
def many_scenes(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "data"
    assert clipmill("sample", "--output", folder, "--rows", MANY, "--seed", 7).code == 0
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[ScalingCluster]:
    """No node but a head without CPUs; one with a GPU can come. The autoscaler is that of KubeRay."""
    with scaling_cluster({"gpu": (GPU_NODE, 1)}, newer=True) as found:
        yield found


def check(output: Path, rows: int, clipmill: Callable) -> None:
    """Every row once, and the files prove it."""
    found = pq.read_table(output / "images", columns=["row"]).column("row").to_pylist()
    assert len(found) == rows
    assert found == sorted(set(found))
    assert clipmill("verify", output).code == 0


def test_encoders_get_a_gpu_on_a_cluster_that_shows_none(
    cluster: ScalingCluster, scenes: Path, tmp_path: Path, clipmill: Callable
) -> None:
    assert [node["resources"].get("GPU", 0) for node in cluster.nodes()] == [0]
    output = tmp_path / "out"
    options = ["--address", cluster.address, "--device", "gpu", "--wait-for-gpu", LIMIT]
    done = cluster.clipmill("embed", "--input", scenes, "--output", output, *options, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "no GPU is up: asking the cluster for one" in done.stderr
    assert "encoding on GPUs: the cluster brought a node that has some" in done.stderr
    check(output, ROWS, clipmill)
    assert [encoder["asked"]["GPU"] for encoder in cluster.encoders()] == [1]


def test_a_run_file_asks_for_gpus_and_is_submitted_as_a_job(
    cluster: ScalingCluster, scenes: Path, tmp_path: Path, clipmill: Callable
) -> None:
    run = {"output": str(tmp_path / "run"), "embed": {"input": str(scenes)}, "cluster": {"device": "gpu"}}
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    ray = str(Path(sys.executable).with_name("ray"))
    line = [ray, "job", "submit", "--address", cluster.dashboard, "--", sys.executable, "-m", "clipmill_jobs", "run"]
    done = subprocess.run(
        [*line, str(tmp_path / "run.yaml")],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (output,) = (tmp_path / "run").glob("**/embeddings")
    check(output, ROWS, clipmill)
    assert {encoder["asked"].get("GPU") for encoder in cluster.encoders()} == {1}


@pytest.mark.parametrize("newer", [True, False], ids=["KubeRay's autoscaler", "the autoscaler of ray up"])
def test_a_gpu_that_no_node_type_has_is_waited_for_and_named(newer: bool, scenes: Path, tmp_path: Path) -> None:
    with scaling_cluster({"cpu": ({"CPU": 2}, 1)}, newer=newer) as found:
        options = ["--address", found.address, "--device", "gpu", "--wait-for-gpu", 20]
        done = found.clipmill("embed", "--input", scenes, "--output", tmp_path / "out", *options)
    assert done.returncode == 1, done.stderr
    assert "waited 20 s for a GPU: no node type of this cluster has a GPU to give" in done.stderr
    assert "--device cpu" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_auto_takes_the_cpu_where_no_node_type_has_a_gpu(scenes: Path, tmp_path: Path, clipmill: Callable) -> None:
    with scaling_cluster({"cpu": ({"CPU": 2}, 1)}, newer=True) as found:
        options = ["--address", found.address]
        done = found.clipmill("embed", "--input", scenes, "--output", tmp_path / "out", *options, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        assert "encoding on CPUs: no node of this cluster has a GPU, and it brings none" in done.stderr
        assert {encoder["asked"].get("GPU", 0) for encoder in found.encoders()} == {0}
    check(tmp_path / "out", ROWS, clipmill)


@pytest.mark.long
@pytest.mark.parametrize("newer", [True, False], ids=["KubeRay's autoscaler", "the autoscaler of ray up"])
def test_a_pool_grows_to_four_encoders_and_loses_one(
    newer: bool, many_scenes: Path, tmp_path: Path, clipmill: Callable
) -> None:
    output = tmp_path / "out"
    with scaling_cluster({"gpu": (GPU_NODE, 4)}, newer=newer) as found:
        options = ["--address", found.address, "--device", "gpu"]
        given = ("embed", "--input", many_scenes, "--output", output, *options)
        job = found.start(*given, program=[waiting_encoder.__file__])
        running = encoders_once_there_are(4, found, job)
        found.kill(running[-1]["node"])
        waiting_encoder.gate(found.folder).touch()
        said = job.communicate(timeout=LIMIT)[0]
    assert job.returncode == 0, said
    check(output, MANY, clipmill)


def encoders_once_there_are(count: int, cluster: ScalingCluster, job: subprocess.Popen) -> list[dict[str, Any]]:
    """Those that are ready, of a run whose encoders wait to be told to go on."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[0]
        running = [encoder for encoder in cluster.encoders() if encoder["state"] == "ALIVE"]
        if len(running) == count:
            return running
        time.sleep(2)
    job.kill()
    pytest.fail(f"{len(running)} encoders of {count}: {job.communicate()[0]}")
