"""Running the service on a cluster until it is told to stop."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

import ray
from ray import serve

from clipmill.core.settings import ClusterSettings, ServeSettings
from clipmill.engine.cluster import Cluster, cause_of, connect
from clipmill.serve.here import listen
from clipmill.serve.on_ray.ingress import application
from clipmill.serve.web.access import is_loopback

NAME = "clipmill"
_CORES_A_REPLICA = 2
_ADVICE = "`clipmill verify` proves whether what is served is whole; the logs of Ray Serve say more"


def run_on_ray(
    settings: ServeSettings,
    cluster: ClusterSettings,
    on_ready: Callable[[str], object],
    on_end: Callable[[], object],
) -> None:
    """Answers until Ctrl-C or SIGTERM, then finishes what was begun. ``on_ready`` is told the address, ``on_end`` is called
    before what was begun is waited for.

    Raises UserError or RunFailed where the service cannot be started.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    listen(settings.host, settings.port).close()  # a port that is taken is told of before anything is started
    with connect(cluster) as found:
        replicas, workers = sizes(settings, found)
        serve.start(
            proxy_location="HeadOnly" if is_loopback(settings.host) else "EveryNode",
            http_options={"host": settings.host, "port": settings.port},
            logging_config={"enable_access_log": False},  # it costs as much as a small answer, and tells who asked
        )
        with suppress(KeyboardInterrupt):
            try:
                serve.run(application(settings, replicas, workers), name=NAME, route_prefix="/")
            except (RuntimeError, ray.exceptions.RayError) as error:
                raise cause_of(_with_messages(error), "starting the service", _ADVICE) from None
            host = "localhost" if is_loopback(settings.host) else settings.host
            on_ready(f"http://{host}:{settings.port}/")
            threading.Event().wait()
        on_end()
        serve.shutdown() if found.own else serve.delete(NAME)


def sizes(settings: ServeSettings, cluster: Cluster) -> tuple[int, int]:
    """How many replicas, and how many answers each computes at a time."""
    cores = max(1, int(cluster.node_cpus))
    replicas = max(1, int(cluster.cpus) // _CORES_A_REPLICA) if settings.replicas == "auto" else int(settings.replicas)
    on_a_node = -(-replicas // max(1, cluster.nodes))
    return replicas, max(1, cores // on_a_node)


def _with_messages(error: Exception) -> Exception:
    """The failure, with what the deployments say of it."""
    try:
        deployments = serve.status().applications[NAME].deployments.values()
    except (KeyError, RuntimeError, ray.exceptions.RayError):
        return error
    return RuntimeError("\n".join([*(one.message for one in deployments if one.message), str(error)]))
