"""How many encoders a cluster gets, and what each of them is given."""

from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings
from clipmill.engine.cluster import Cluster
from clipmill.engine.device import declared, no_gpu_here

ENCODE_CPUS = 0.5
_NEVER_FULL = 0.01
"""Encoders whose node is lost start again on the nodes that are left. Twice those of a node ask for a little more than it has:
so one task of each other kind fits beside as many as there can be, and units go on."""
_BESIDE_GPUS = 1.5
"""Cores of a node that encoders on its GPUs leave, however many share them: for a task that decodes, and to read and write."""
_MOST_CPU_ENCODERS = 8


@dataclass(frozen=True)
class EncoderPool:
    """``size`` encoder actors to begin with, and what each asks for. With ``grows``, more as the cluster grows, and
    fewer while it has fewer; ``roomy``: its nodes have room for readers beside an encoder and a decoder."""

    size: int
    cpus: float
    gpus: float
    threads: int
    grows: bool = False
    roomy: bool = False


def encoder_pool(cluster: Cluster, settings: ClusterSettings) -> EncoderPool:
    """One actor per GPU (or share of one) where there are GPUs and --device allows it, or were asked for; else one-threaded
    actors, one per core.

    Two encoders with a thread each do more than one with two; beyond a few on a node, threads are cheaper than copies of
    the model. On a cluster that was there before, the pool grows with it, unless a number of actors was asked for. Raises
    UserError for more GPUs an actor than a node has.
    """
    device = declared(settings)
    if device == "gpu" or (device == "auto" and cluster.gpus > 0):
        if cluster.own and not cluster.gpus:
            raise no_gpu_here(settings)
        most = max(cluster.gpus_of_nodes, default=0)
        if cluster.gpus and settings.gpus_per_actor > most:
            raise UserError(f"--gpus-per-actor {settings.gpus_per_actor:g}: no node has more than {most:g} GPUs")
        size = settings.num_gpu_actors or max(
            1, sum(_held(gpus, settings.gpus_per_actor) for gpus in cluster.gpus_of_nodes)
        )
        grows = not cluster.own and not settings.num_gpu_actors
        roomy = cluster.node_cpus >= 2
        held = max(1, _held(most, settings.gpus_per_actor)) if cluster.gpus else 1
        cpus = min(ENCODE_CPUS, (cluster.node_cpus - _BESIDE_GPUS) / held) if roomy else ENCODE_CPUS
        return EncoderPool(size, cpus, settings.gpus_per_actor, 1, grows, roomy)
    cores = max(1, int(cluster.node_cpus))
    on_a_node = min(cores, _MOST_CPU_ENCODERS)
    size = max(1, round(cluster.cpus * on_a_node / cores))
    threads = max(1, cores // on_a_node)
    cpus = (ENCODE_CPUS * cores + _NEVER_FULL / 2) / on_a_node
    return EncoderPool(size, cpus, 0, threads, not cluster.own, cores >= 2)


def _held(gpus: float, share: float) -> int:
    """Actors that a node's GPUs hold: one GPU is shared by whole actors only, and an actor's GPUs are of one node."""
    return int(gpus) * int(1 / share + 1e-9) if share <= 1 else int(gpus // share)
