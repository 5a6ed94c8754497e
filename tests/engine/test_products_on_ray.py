"""Products on a GPU of a cluster: pieces ask Ray for one, and fit on the node that has it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.manifests import IndexManifest
from clipmill.core.settings import ClusterSettings, IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.runs.stages import index_stage

pytestmark = pytest.mark.cluster


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, stage: str, text: str) -> None:
        """Keeps the text."""
        self.messages.append(text)

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """Says nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A node of two CPUs, and one of a single CPU and a GPU that is a number."""
    monkeypatch.setenv(FAKE_GPUS, "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})
    cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    ray.shutdown()
    yield cluster.address
    cluster.shutdown()


def test_an_index_is_trained_and_searched_exactly_on_the_node_with_a_gpu(
    address: str, clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    dataset = clustered_embeddings(900, 120, row_group_size=200)
    settings = IndexSettings(
        embeddings=dataset.location.uri,
        output=str(tmp_path / "index"),
        factory="IVF8,PQ4x4fsr",
        shards=2,
        tuning_queries=40,
        products="gpu",
    )
    told = Told()
    made = index_stage(settings, ClusterSettings(address=address, stall_timeout=60), told)
    assert isinstance(made.manifest, IndexManifest)
    assert made.manifest.n == 900
    assert any("that was not measured yet" in message for message in told.messages)
