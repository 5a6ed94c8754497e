"""A cluster gets the encoders that it can hold, and no more."""

import math

import pytest

from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, build
from clipmill.engine.cluster import Cluster
from clipmill.engine.encoder_pool import encoder_pool


def cluster(cpus: float, *gpus: float, nodes: int = 1, own: bool = True) -> Cluster:
    return Cluster(cpus=cpus, nodes=nodes, node_cpus=cpus / nodes, gpus_of_nodes=gpus, own=own)


@pytest.mark.parametrize(
    ("gpus", "share", "actors"),
    [
        ((4,), 1, 4),
        ((4,), 0.5, 8),
        ((4,), 0.6, 4),
        ((4,), 0.1, 40),
        ((3, 3), 2, 2),
        ((1, 2, 0), 0.5, 6),
        ((8,), 0.33, 24),
    ],
)
def test_gpus_hold_whole_actors(gpus: tuple[float, ...], share: float, actors: int) -> None:
    settings = ClusterSettings(gpus_per_actor=share)
    assert encoder_pool(cluster(16, *gpus), settings).size == actors


@pytest.mark.parametrize(
    ("cpus", "nodes", "size", "threads"), [(1, 1, 1, 1), (2, 1, 2, 1), (64, 1, 8, 8), (128, 2, 16, 8)]
)
def test_cpus_get_one_encoder_each_and_at_most_eight_a_node(cpus: int, nodes: int, size: int, threads: int) -> None:
    pool = encoder_pool(cluster(cpus, nodes=nodes), ClusterSettings())
    assert (pool.size, pool.threads) == (size, threads)


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 7, 8, 9, 16, 30, 64, 192])
def test_units_go_on_beside_as_many_encoders_as_a_node_can_be_given(cores: int) -> None:
    """All of a cluster start again on its last node."""
    asked = encoder_pool(cluster(cores * 20, nodes=20), ClusterSettings()).cpus
    stacked = math.floor(cores / asked)
    reading, decoding, writing = 0.02, 0.45, 0.02
    assert cores - stacked * asked >= reading + decoding + writing
    assert stacked >= 1


@pytest.mark.parametrize(("cores", "gpus", "share"), [(2, 1, 1), (2, 1, 0.25), (8, 4, 0.25), (8, 8, 1), (64, 8, 0.5)])
def test_units_are_decoded_beside_encoders_on_all_gpus_of_a_node(cores: int, gpus: int, share: float) -> None:
    pool = encoder_pool(cluster(cores, gpus), ClusterSettings(gpus_per_actor=share))
    reading, decoding, writing = 0.25, 1, 0.02
    assert pool.size == gpus / share
    assert cores - pool.size * pool.cpus >= reading + decoding + writing
    assert 0 < pool.cpus <= 0.5


def test_pools_grow_on_clusters_of_others_unless_their_number_is_set() -> None:
    assert not encoder_pool(cluster(2), ClusterSettings()).grows
    assert encoder_pool(cluster(2, own=False), ClusterSettings()).grows
    assert encoder_pool(cluster(8, 2, own=False), ClusterSettings()).grows
    assert not encoder_pool(cluster(8, 2, own=False), ClusterSettings(num_gpu_actors=2)).grows


def test_more_gpus_an_actor_than_a_node_has_are_refused() -> None:
    with pytest.raises(UserError, match="no node has more than 2"):
        encoder_pool(cluster(8, 2, 2), ClusterSettings(gpus_per_actor=4))
    with pytest.raises(UserError, match=r"--gpus-per-actor: a share of one GPU"):
        build(ClusterSettings, {"gpus_per_actor": 1.5})
