"""As many pieces at once as what each uses leaves room for."""

import pytest

from clipmill.core.settings import ClusterSettings
from clipmill.engine.cluster import Cluster
from clipmill.engine.here import Here
from clipmill.engine.over_units import _on_ray


@pytest.mark.parametrize(
    ("device", "each", "expected"),
    [
        ("cpu", None, (8, 0, 2)),  # a piece a node, with all its cores
        ("cpu", 1, (1, 0, 16)),  # a model that is small: a piece a core
        ("gpu", 1, (4, 1.0, 4)),  # a piece a GPU, whatever the model
    ],
)
def test_pieces_are_as_many_as_nodes_cores_or_gpus(
    device: str, each: int | None, expected: tuple[int, float, int]
) -> None:
    cluster = Cluster(16, 2, 8, (2.0, 2.0), own=False)
    where = _on_ray(Here(1), cluster, device, ClusterSettings(), each)
    assert (where.cores, where.gpus, where.at_once) == expected
