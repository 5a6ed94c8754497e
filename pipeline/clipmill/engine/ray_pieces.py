"""Pieces of work as Ray tasks: tried again a few times, watched for signs of life, and told by name when they fail."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import faiss
import ray

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.engine.cluster import CONTINUE, Cluster, cause_of, describe_load
from clipmill.engine.watch import Patience, noted_signals, signs_to, stalled, start_tally

_TRIES = 4
_POLL_SECONDS = 0.5
_FIT_SECONDS = 2.0
_TOLD = 3
"""Tasks that a message names at most."""


@dataclass(frozen=True)
class _Task:
    what: str
    start: Callable[[float, int], Any]
    cpus: float
    memory: int
    gpus: float
    then: Callable[[Any], object]
    tries: int = 1


class RayPieces:
    """The engine of a cluster (`clipmill.stage.pieces.Pieces`): a task per piece.

    Each is tried four times where a worker or node dies or storage fails; Ray itself retries none, since it would try
    again without end what is killed for lack of memory.
    """

    def __init__(
        self, cluster: Cluster, stall_timeout: float, tally: Any = None, patience: Patience | None = None
    ) -> None:
        self.tally = tally or start_tally()
        self._cluster = cluster
        self._patience = patience or Patience(stall_timeout)
        self._under_way: dict[Any, _Task] = {}
        self._remote: dict[Any, Any] = {}
        self._asked = self.tally.take.remote()

    @property
    def cores(self) -> int:
        """Cores of the largest node."""
        return cores_of_a_node()

    @property
    def hardware(self) -> dict[str, Any]:
        """The driver's machine, and what the cluster had when this process connected to it."""
        cluster = self._cluster
        return {**environment.hardware(), "cpus": cluster.cpus, "gpus": cluster.gpus, "nodes": cluster.nodes}

    def share(self, value: Any) -> Any:
        """Puts it into the object store, which brings it to each node once."""
        return ray.put(value)

    def cores_each(self, pieces: int) -> int:
        """As `threads_each`."""
        return threads_each(pieces)

    def start(
        self,
        what: str,
        function: Callable[..., Any],
        *arguments: Any,
        cores: float = 1,
        memory: int = 0,
        gpus: float = 0,
        then: Callable[[Any], object] = lambda result: None,
    ) -> None:
        """Starts a task that is called ``what`` ("filling shard 3"); ``then`` is given its result, and may start others.
        Ray puts tasks side by side where what they ask for fits: one that takes much memory asks for it."""
        if function not in self._remote:
            self._remote[function] = ray.remote(max_retries=0)(_named_like(function))
        remote = self._remote[function]

        def begin(cpus: float, most: int) -> Any:
            return remote.options(num_cpus=cpus, num_gpus=gpus or None, memory=most or None).remote(
                self.tally, *arguments
            )

        self._submit(_Task(what, begin, cores, memory, gpus, then))

    def wait(self) -> None:
        """Returns when all tasks are done, those included that are started meanwhile.

        Raises RunFailed, or what the task raised of ours, when one fails for good, and RunFailed when nothing moves for
        the time allowed; tasks under way are cancelled then. Ctrl-C and SIGTERM are raised within a second.
        """
        moved = fitted = time.monotonic()
        try:
            with noted_signals() as stop_if_told:
                while self._under_way:
                    stop_if_told()
                    if self._collect() or self._signs():
                        moved = time.monotonic()
                    elif time.monotonic() - fitted > _FIT_SECONDS:
                        self._fit()
                        fitted = time.monotonic()
                    still = time.monotonic() - moved
                    if self._patience.ends(still):
                        raise stalled(self._patience.spent(still), self._waiting_for())
        except BaseException:  # Ctrl-C too: this process may live on
            for reference in self._under_way:
                ray.cancel(reference, force=True)
            self._under_way.clear()
            raise

    def poll(self) -> None:
        """Takes in what has ended, without waiting. Raises as `wait` does."""
        while self._under_way and self._collect(timeout=0):
            pass

    def _submit(self, task: _Task) -> None:
        memory = min(task.memory, memory_of_a_node(task.gpus))
        cpus = min(task.cpus, cores_of_a_node(task.gpus)) if task.gpus else task.cpus
        self._under_way[task.start(cpus, memory)] = replace(task, cpus=cpus, memory=memory)

    def _collect(self, timeout: float = _POLL_SECONDS) -> bool:
        """Whether a task ended within the next moment."""
        waiting = list(self._under_way)
        if not ray.wait(waiting, timeout=timeout, fetch_local=False)[0]:
            return False
        ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        for reference in ended:
            task = self._under_way.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._try_again(task, error)
            else:
                task.then(result)
        return True

    def _try_again(self, task: _Task, error: ray.exceptions.RayError) -> None:
        if not _may_pass(error):
            raise cause_of(error, task.what) from error
        if task.tries == _TRIES:
            raise RunFailed(f"{task.what} failed {_TRIES} times: {_reason(error)}; {CONTINUE}") from error
        self._submit(replace(task, tries=task.tries + 1))

    def _fit(self) -> None:
        """Starts tasks anew with less that need more than any node has: the largest node may have been lost."""
        for reference, task in list(self._under_way.items()):
            most, memory = cores_of_a_node(task.gpus), memory_of_a_node(task.gpus)
            if task.cpus > most or task.memory > memory:
                ray.cancel(reference, force=True)
                del self._under_way[reference]
                self._submit(replace(task, cpus=min(task.cpus, most)))

    def _signs(self) -> bool:
        """Whether workers have shown signs of life. A tally that is being restarted has none to tell."""
        if not ray.wait([self._asked], timeout=0)[0]:
            return False
        try:
            return bool(ray.get(self._asked).anything)
        except ray.exceptions.RayError:
            return False
        finally:
            self._asked = self.tally.take.remote()

    def _waiting_for(self) -> str:
        tasks = list(self._under_way.values())
        names = ", ".join(task.what for task in tasks[:_TOLD])
        more = f" and {len(tasks) - _TOLD} more" if len(tasks) > _TOLD else ""
        most = max(task.cpus for task in tasks)
        return f"{names}{more} (a task needs up to {most:g} CPUs of one node; {describe_load()})"


def _named_like(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a task: with no more threads than the cores that it was given, and signs of life to the tally. Ray,
    and whoever looks at a process list, knows it by the function's own name."""

    def task(tally: Any, *arguments: Any) -> Any:
        begin_task()
        return function(signs_to(tally), *arguments)

    task.__name__, task.__qualname__ = function.__name__, function.__qualname__
    return task


def cores_of_a_node(gpus: float = 0) -> int:
    """Cores of the node that has most, of those with so many GPUs: the most that one task can ask for. Nodes without CPUs take
    no tasks; where there is none with CPUs yet, a cluster that grows brings one for a task that asks for 1."""
    return max([1, *(int(node.get("CPU", 0.0)) for node in _nodes(gpus))])


def threads_each(tasks: int) -> int:
    """Threads for each of so many tasks, so that together they fill the cluster and each fits on its largest node."""
    return max(1, min(cores_of_a_node(), int(sum(node.get("CPU", 0.0) for node in _nodes())) // max(1, tasks)))


def memory_of_a_node(gpus: float = 0) -> int:
    """Bytes that tasks may ask for of the node which has most: the most that one task can ask for. Nodes without CPUs take
    none."""
    return int(max((node.get("memory", 0.0) for node in _nodes(gpus) if node.get("CPU", 0.0) >= 1), default=0))


def begin_task() -> None:
    """The first step of a task or an actor: no more threads than the node that runs it gave it cores."""
    given = ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)
    logging.getLogger("faiss").setLevel(logging.ERROR)
    faiss.omp_set_num_threads(max(1, int(given)))


def _nodes(gpus: float = 0) -> list[dict[str, float]]:
    """What the nodes have that are up and have so many GPUs."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [node for node in alive if node.get("GPU", 0.0) >= gpus]


def _may_pass(error: ray.exceptions.RayError) -> bool:
    """Whether another try may go better: a process or a node died, an object was lost with it, or storage failed."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return isinstance(error.cause, (OSError, MemoryError))
    return not isinstance(error, ray.exceptions.TaskCancelledError)


def _reason(error: ray.exceptions.RayError) -> str:
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    if isinstance(cause, (ray.exceptions.OutOfMemoryError, MemoryError)):
        return (
            "its process was ended for lack of memory; use machines with more of it, or fewer --cpus, so that fewer tasks "
            "share it"
        )
    if isinstance(cause, ray.exceptions.NodeDiedError):
        return "its node died"
    if isinstance(cause, ray.exceptions.WorkerCrashedError):
        return "its process was killed or crashed, perhaps for lack of memory"
    return f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}"
