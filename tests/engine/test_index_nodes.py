"""An index on several nodes: a head without CPUs, nodes of different sizes, and one of them lost on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.engine.cluster import connect
from clipmill.index.build.build import make_build
from clipmill.index.search.open import open_index
from clipmill.runs.stages import build_stage

pytestmark = pytest.mark.cluster
ROWS, SHARDS = 20_000, 16


@pytest.fixture
def nodes() -> Iterator[tuple[Cluster, Any]]:
    """A head that takes no tasks, a node of a single CPU, and one of two, which comes with the cluster."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    larger = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    yield cluster, larger
    cluster.shutdown()


def test_the_largest_node_may_be_lost(
    nodes: tuple[Cluster, Any], clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    dataset = clustered_embeddings(ROWS, 400, 32)
    indexing = IndexSettings(
        embeddings=dataset.location.uri,
        output=str(tmp_path / "index"),
        factory="IVF64,PQ16x4fsr",
        shards=SHARDS,
        tuning_queries=200,
    )
    build = make_build(indexing)
    folder = Path(build.staging.folder.path)
    several, larger = nodes
    lost = threading.Event()

    def lose_a_node() -> None:
        while not list(folder.glob("shards/*.json")):
            time.sleep(0.01)
        several.remove_node(larger, allow_graceful=False)
        lost.set()

    thread = threading.Thread(target=lose_a_node, daemon=True)
    thread.start()
    ray.shutdown()
    settings = ClusterSettings(address=several.address, stall_timeout=120)
    with connect(settings) as cluster:
        assert (cluster.nodes, cluster.cpus) == (3, 3)
        manifest = build_stage(build, settings, Silent()).manifest
    assert lost.is_set()
    assert manifest.runs[-1].rows_encoded == ROWS
    assert open_index(str(tmp_path / "index")).n == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
