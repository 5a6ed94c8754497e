"""The Ray cluster a command runs on: the one it is given, else a local one started and stopped."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from pipeline.config import ClusterSettings
from pipeline.errors import UserError


@dataclass(frozen=True)
class Cluster:
    """What the cluster has at the moment of connecting."""

    cpus: float
    gpus: float
    nodes: int
    local: bool


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[Cluster]:
    """Connects to Ray for the length of the block.

    The cluster is ``settings.address``, else RAY_ADDRESS (set inside a submitted job), else one started on this
    machine and stopped at the end. A connection that exists already is used and left open. Raises UserError when the
    address cannot be reached.
    """
    if ray.is_initialized():
        yield _describe(local=False)
        return
    address = settings.address or os.environ.get("RAY_ADDRESS")
    options = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address:
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"--address {address}: no Ray cluster could be reached there: {reason}") from None
    else:
        cpus = settings.cpus or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
    try:
        yield _describe(local=not address)
    finally:
        ray.shutdown()


def _describe(*, local: bool) -> Cluster:
    resources = ray.cluster_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    return Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), nodes, local)
