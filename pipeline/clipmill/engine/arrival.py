"""Waiting for the first node of a cluster that scales from zero, and what encoders run on there.

What runs follows from what was asked for and what the cluster can get, never from what happens to be up. Autoscalers bring
nodes for what waits, so the wait is one of tasks that ask for what is needed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from clipmill.core.errors import RunFailed
from clipmill.core.settings import ClusterSettings
from clipmill.engine.autoscaler import Outlook, outlook
from clipmill.engine.cluster import CONTINUE, Cluster, describe
from clipmill.engine.device import declared, no_gpu_here
from clipmill.engine.encoder_pool import ENCODE_CPUS
from clipmill.engine.watch import noted_signals

Say = Callable[[str], object]
_POLL_SECONDS = 0.5
_SAY_SECONDS = 30.0


def ready_to_encode(
    cluster: Cluster, settings: ClusterSettings, say: Say, doing: str = "encoding"
) -> tuple[Cluster, ClusterSettings]:
    """The cluster once encoders (or what else is ``doing``) can run on it, and the settings with the device that was chosen,
    which is said with why.

    Raises UserError where this machine is asked for a GPU and has none, RunFailed where one is waited for in vain.
    """
    device = declared(settings)
    if cluster.own and device == "gpu" and not cluster.gpus:
        raise no_gpu_here(settings)
    chosen, why = _chosen(cluster, settings, say)
    say(f"{doing} on {'GPUs' if chosen == 'gpu' else 'CPUs'}: {why}")
    decided = settings.model_copy(update={"device": chosen})
    if chosen == "gpu":
        return describe(own=cluster.own), decided
    return first_node(cluster, settings, say), decided


def first_node(cluster: Cluster, settings: ClusterSettings, say: Say) -> Cluster:
    """The cluster once it has a node that takes tasks. Raises RunFailed where it has none in time."""
    if cluster.cpus >= 1:
        return cluster
    _wait("CPU", 1, 1, 0, settings, say, give_up=False)
    return describe(own=cluster.own)


def _chosen(cluster: Cluster, settings: ClusterSettings, say: Say) -> tuple[str, str]:
    device = declared(settings)
    if device == "cpu":
        return "cpu", "as asked for"
    if cluster.gpus:
        holding = sum(gpus > 0 for gpus in cluster.gpus_of_nodes)
        return "gpu", f"{holding} of {cluster.nodes} nodes {'has' if holding == 1 else 'have'} some"
    if device == "auto" and (cluster.own or not outlook().grows):
        return (
            "cpu",
            "this machine has no GPU" if cluster.own else "no node of this cluster has a GPU, and it does not grow",
        )
    count = settings.num_gpu_actors or 1
    if _wait("GPU", count, ENCODE_CPUS, settings.gpus_per_actor, settings, say, give_up=device == "auto"):
        return "gpu", "the cluster brought a node that has some"
    return "cpu", "no node of this cluster has a GPU, and it brings none"


def _wait(
    kind: str, count: int, cpus: float, gpus: float, settings: ClusterSettings, say: Say, *, give_up: bool
) -> bool:
    """Whether a node with this kind of resource came; with ``give_up``, False once the cluster does not bring any.

    Raises RunFailed after the time allowed, with what is missing.
    """
    began = said = answered = time.monotonic()
    limit = settings.wait_for_gpu
    say(f"no {kind} is up: asking the cluster for {'one' if count == 1 else count}, and waiting up to {limit:g} s")
    with _asking(count, cpus, gpus), noted_signals() as stop_if_told:
        while not _is_up(kind):
            stop_if_told()
            now, seen = time.monotonic(), outlook()
            answer = seen.answer(kind, now - answered)
            if answer:
                answered = now
            if give_up and answer is False:
                return False
            told = missing(seen, answer, kind, count)
            if now - began > limit:
                raise RunFailed(f"waited {limit:g} s for a {kind}: {told}; {_advice(kind)}; {CONTINUE}")
            if now - said > _SAY_SECONDS:
                say(f"waiting for a {kind} since {now - began:.0f} s: {told}")
                said = now
            time.sleep(_POLL_SECONDS)
    return True


def missing(seen: Outlook, answer: bool | None, kind: str, count: int) -> str:
    """What is missing for a node with this kind of resource to be there, in words."""
    if not seen.grows:
        return f"no node of this cluster has a {kind}, and it has no autoscaler that could bring one"
    if answer is None:
        return f"{count} {kind}{'s' if count > 1 else ''} asked for, and the autoscaler has not answered yet"
    if not answer:
        return f"no node type of this cluster has a {kind} to give, or as many of its nodes are up as may be"
    nodes = "1 node" if seen.coming == 1 else f"{seen.coming} nodes"
    return f"{nodes} asked for, none with a {kind} up yet"


def _advice(kind: str) -> str:
    if kind == "GPU":
        return (
            "give the cluster a node type with GPUs, or ask for none (--device cpu, --products cpu); "
            "--wait-for-gpu sets how long to wait"
        )
    return "give the cluster nodes with CPUs for tasks; --wait-for-gpu sets how long to wait"


def _is_up(kind: str) -> bool:
    return any(node["Alive"] and node["Resources"].get(kind, 0) > 0 for node in ray.nodes())


@contextmanager
def _asking(count: int, cpus: float, gpus: float) -> Iterator[None]:
    """So many tasks that ask for this much each; they do nothing, and are dropped at the end."""
    arrive = ray.remote(lambda: None).options(num_cpus=cpus, num_gpus=gpus or None, max_retries=0)
    waiting = [arrive.remote() for _ in range(count)]
    try:
        yield
    finally:
        for one in waiting:
            ray.cancel(one, force=True)
