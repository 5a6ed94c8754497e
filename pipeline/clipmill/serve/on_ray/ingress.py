"""The deployment that answers: the whole application in each replica, with the indices open in it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from clipmill.core.settings import ServeSettings
from clipmill.core.startup import prepare_process
from clipmill.engine.ray_pieces import begin_task
from clipmill.serve.limits import Limits
from clipmill.serve.on_ray.encoders import Encoders, remote_encoders
from clipmill.serve.on_ray.front import refuse_forwarded
from clipmill.serve.on_ray.shards import Shards, remote_open, runs_for
from clipmill.serve.prepare import access_of
from clipmill.serve.service import Service, named_of
from clipmill.serve.web.app import make_app
from clipmill.serve.web.log import open_query_log
from clipmill.serve.web.metrics import Metrics

_DRAIN_SECONDS = 20.0
_HELD = 1.1
"""Bytes in memory for each byte of codes, with what a search takes."""
_PROCESS_BYTES = 400_000_000


@serve.deployment(name="service", graceful_shutdown_timeout_s=_DRAIN_SECONDS, health_check_period_s=10)
@serve.ingress()
class Ingress:
    """A replica. It is ready when all indices are open; each request says which version answered it."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, settings: dict[str, Any], workers: int, encoders: Any, shards: list[Any]
    ) -> None:
        prepare_process()
        begin_task()
        self._settings = ServeSettings.model_validate(settings)
        refuse_forwarded(self._settings)
        self._metrics = Metrics()
        self._service = await asyncio.to_thread(  # others are asked meanwhile, whose answers this loop has to take
            Service.open,
            named_of(self._settings.places),
            Limits(k=self._settings.k_max, workers=workers),
            remote_encoders(encoders),
            Path(self._settings.cache),
            self._metrics.changed,
            remote_open(shards, resident=self._settings.resident),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        log = self._settings.log_queries
        if log is not None and self._settings.replicas != "1":
            stem, dot, ending = log.rpartition(".")
            replica = serve.get_replica_context().replica_tag.rsplit("#", 1)[-1]
            log = f"{stem}-{replica}{dot}{ending}"
        queries = open_query_log(log, self._service.indices[0].current.index.dimension)
        access = replace(access_of(self._settings), peers=_own_addresses())
        return make_app(self._service, access, self._metrics, queries)


def _own_addresses() -> frozenset[str]:
    """Of this node, and of the head, where the proxy of a service without tokens is."""
    head, _, _ = ray.get_runtime_context().gcs_address.rpartition(":")
    return frozenset({ray.util.get_node_ip_address(), head.strip("[]")})


def application(settings: ServeSettings, replicas: int, workers: int) -> serve.Application:
    """All deployments of the service. Raises UserError for an index that is not there."""
    limits = Limits()
    encoders = (
        _deployment(Encoders)
        .options(ray_actor_options={"num_cpus": 0.25})
        .bind(settings.model, settings.pretrained, settings.trust_remote_code, limits.picture_pixels)
    )
    service = _deployment(Ingress).options(
        num_replicas=replicas,
        max_ongoing_requests=2 * (workers + limits.waiting),
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": 0.5},
    )
    told = settings.model_dump(mode="json")
    bound: serve.Application = service.bind(told, workers, encoders, _shards(settings))
    return bound


def _deployment(made: Any) -> Any:
    """What Ray Serve's decorators make of a class, which their types do not say."""
    return made


def _shards(settings: ServeSettings) -> list[Any]:
    from clipmill.serve.follow.target import target_of

    places = [target_of(one.uri).uri for one in named_of(settings.places)]
    runs = max(runs_for(place, settings.shard_memory, resident=settings.resident) for place in places)
    memory = int(settings.shard_memory * _HELD) + _PROCESS_BYTES
    return [
        _deployment(Shards)
        .options(name=f"shards-{number}", ray_actor_options={"num_cpus": 0.1, "memory": memory})
        .bind(number, runs, str(settings.cache), settings.resident)
        for number in range(runs)
    ]


def build(arguments: dict[str, Any]) -> serve.Application:
    """For a configuration of Ray Serve: ``import_path: clipmill.serve.on_ray.ingress:build``, with the options of `clipmill
    serve` by their names as ``args``. Others reach such a service, so ``token_file`` is needed."""
    from clipmill.core.settings import build as build_settings

    prepare_process()
    settings = build_settings(ServeSettings, {"host": "0.0.0.0", "replicas": "1", **arguments})
    access_of(settings)
    return application(settings, int(settings.replicas) if settings.replicas != "auto" else 1, Limits().workers)
