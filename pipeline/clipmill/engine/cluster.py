"""The Ray cluster a command runs on: the one it is given, else a local one started and stopped."""

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR

from clipmill.core.errors import ClipmillError, RunFailed, StorageFailed, StorageRefused, UserError
from clipmill.core.settings import ClusterSettings
from clipmill.engine.choose import cores_here
from clipmill.storage.s3.settings import reached_variables, worker_variables

_ANSWER_SECONDS = 10
_OWN_CLUSTER = {"task_oom_retries": 3, "worker_niceness": 0}
"""Ray would try again without end what is killed for lack of memory; and its workers, nicer than all else by default,
would stand still on a machine that does other work too."""
_SETUP = "clipmill.core.startup.prepare_process"
"""What every worker process calls first."""
_started_here = False
"""Whether the cluster that this process is connected to is its own; Ray has one connection a process."""


@dataclass(frozen=True)
class Cluster:
    """What the cluster has at the moment of looking; ``node_cpus`` are those of its largest node, ``gpus_of_nodes`` those
    of each. ``own``: it was started for this command, so nothing else runs there and it will not grow."""

    cpus: float
    nodes: int
    node_cpus: float
    gpus_of_nodes: tuple[float, ...]
    own: bool

    @property
    def gpus(self) -> float:
        return sum(self.gpus_of_nodes)


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[Cluster]:
    """Connects to Ray for the length of the block.

    The cluster is ``settings.address``, else RAY_ADDRESS (set inside a submitted job), else one started on this
    machine and stopped at the end. A connection that exists already is used and left open. Raises UserError when the
    address cannot be reached.
    """
    global _started_here
    if ray.is_initialized():
        yield describe(own=_started_here)
        return
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address == "local":
        address = None
    on_sigterm = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address:
        _refuse_silent(address, "--address" if settings.address else "RAY_ADDRESS")
        options["runtime_env"] = {"env_vars": _variables_for_workers(), "worker_process_setup_hook": _SETUP}
        try:
            with _silenced():
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            given = "--address" if settings.address else "RAY_ADDRESS"
            raise UserError(
                f"{given} {address}: something answers there, but it is no Ray cluster that lets this command in: {reason}; "
                + _about_token()
            ) from None
    else:
        with _silenced(), _inherited({WORKER_PROCESS_SETUP_HOOK_ENV_VAR: _SETUP}):
            ray.init(
                address="local",
                num_cpus=cores_here(settings),
                include_dashboard=False,
                _system_config=_OWN_CLUSTER,
                **options,
            )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in place, which ends the process without a word
    _started_here = address is None
    try:
        yield describe(own=_started_here)
    except KeyboardInterrupt:
        raise  # a thread may be inside Ray: a cluster that goes under it ends the process, before a word is said
    except BaseException as error:
        if not getattr(error, "work_goes_on", False):
            ray.shutdown()
        raise
    else:
        ray.shutdown()
    finally:
        _started_here = False


@contextmanager
def _inherited(variables: dict[str, str]) -> Iterator[None]:
    """Environment that processes started meanwhile inherit. A runtime environment would do the same to the workers of a
    cluster of ours, and each would start two seconds later."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _variables_for_workers() -> dict[str, str]:
    """What workers on other machines must be told of S3, without what a submitted job hands to its workers itself.

    Credentials are never among it: every node has its own, or its role.
    """
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    handed_on = (submitted.get("runtime_env") or {}).get("env_vars") or {}
    variables = {**worker_variables(), **reached_variables()}
    return {name: value for name, value in variables.items() if name not in handed_on}


def _refuse_silent(address: str, given: str) -> None:
    """Raises UserError where nothing listens: Ray would wait for minutes without a word."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"{given} {address}: nothing answers there ({error}); is the cluster up, and is this its address?"
        ) from None


def _about_token() -> str:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "the token in RAY_AUTH_TOKEN may be that of another cluster"
    return "it may want its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or put it into ~/.ray/auth_token)"


@contextmanager
def _silenced() -> Iterator[None]:
    """Keeps what Ray's core prints while it starts off the terminal; failures come as exceptions all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def describe_load() -> str:
    """What the cluster has and how much of it is free now, in words."""
    there, free = ray.cluster_resources(), ray.available_resources()
    kinds = [f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    if "memory" in there:
        kinds.append(f"{free.get('memory', 0) / 1e9:.1f} of {there['memory'] / 1e9:.1f} GB of memory not asked for")
    nodes = sum(node["Alive"] for node in ray.nodes())
    return f"the cluster has {nodes} node{'s' if nodes != 1 else ''}, {', '.join(kinds)}"


def describe(*, own: bool) -> Cluster:
    """What the cluster has now that this process is connected to."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = ([node.get(kind, 0.0) for node in nodes] for kind in ("CPU", "GPU"))
    return Cluster(sum(cpus), len(nodes), max(cpus, default=0.0), tuple(gpus), own)


CONTINUE = "what is done is kept: run the same command again to continue"


def cause_of(error: BaseException, doing: str, advice: str = CONTINUE) -> ClipmillError:
    """What a worker's failure means to the user: its own error where it is one of ours, else a RunFailed that names it and
    ends with ``advice``.

    Ray Data hands the worker's exception over as text only, so it is looked for there.
    """
    cause: object = error
    while isinstance(cause, ray.exceptions.RayTaskError):
        cause = cause.cause
    if isinstance(cause, ClipmillError):
        told = type(cause)(str(cause).splitlines()[0])
        told.work_goes_on = cause.work_goes_on
        return told
    ours = {kind.__name__: kind for kind in (RunFailed, UserError, StorageFailed, StorageRefused)}
    raised = re.findall(r"^(?:([\w.]+)\.)?(\w+): (.*)$", _ANSI.sub("", str(error)), flags=re.MULTILINE)
    raised = [
        (name, message)
        for module, name, message in raised
        if not module.startswith("ray.") and not message.startswith("Traceback (most recent call last)")
    ]
    for name, message in raised:
        if name in ours:
            return ours[name](message)
    if "creation task" not in str(error):
        for kind, what in _DEATHS.items():
            if isinstance(error, kind) or kind.__name__ in str(error):
                return RunFailed(f"{doing} failed: {what}; {advice}")
    reason = (
        f"{raised[0][0]}: {raised[0][1]}" if raised else (str(error).strip() or type(error).__name__).splitlines()[0]
    )
    return RunFailed(f"{doing} failed in a worker ({reason}); {advice}")


_DEATHS = {
    ray.exceptions.OutOfMemoryError: "a worker was killed since its node ran out of memory; use fewer --cpus or more memory",
    ray.exceptions.OutOfDiskError: "a node ran out of disk for what did not fit into memory; make room there",
    ray.exceptions.NodeDiedError: "a node was lost again and again",
    ray.exceptions.ActorDiedError: "a worker process died again and again (it was killed, or crashed in native code)",
    ray.exceptions.ActorUnavailableError: "a worker process could not be reached again and again (its node may be lost)",
    ray.exceptions.WorkerCrashedError: "a worker process died again and again (it was killed, or crashed in native code)",
}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
