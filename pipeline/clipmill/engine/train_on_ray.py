"""Training on several workers of a Ray cluster, by Ray Train: it places them, connects them, and starts them again."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from clipmill.core.errors import ClipmillError, UserError
from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings, TrainSettings
from clipmill.encoders.names import LOCAL_DIR
from clipmill.engine.arrival import ready_to_encode
from clipmill.engine.cluster import Cluster, cause_of, connect
from clipmill.engine.device import enter_device
from clipmill.stage.stage import Work
from clipmill.train.checkpoint import ModelRecord, finished_record, note_finished
from clipmill.train.trainer import Told, train_worker

_POLL_SECONDS = 0.5
_MOST_LOSSES = 20
"""How often a run may lose a worker and go on from its last checkpoint."""


@dataclass(frozen=True)
class TrainingPool:
    """``fewest`` to ``most`` workers, each with so many cores and GPUs."""

    fewest: int
    most: int
    cpus: float
    gpus: float


def training_pool(settings: TrainSettings, cluster: Cluster, device: str) -> TrainingPool:
    """The workers that the settings ask for: by default one per GPU, else one. On CPUs they share a node's cores.

    Raises UserError where this machine, which is the whole cluster, has fewer GPUs.
    """
    share = settings.gpus_per_worker
    fewest, most = settings.workers or (1, 1)
    if device != "gpu":
        return TrainingPool(fewest, most, _cores_of_a_worker(cluster, most), 0.0)
    if settings.workers is None:
        fewest = most = max(1, int(cluster.gpus / share))
    if cluster.own and fewest * share > cluster.gpus:
        raise UserError(f"--workers {fewest}: this machine has {cluster.gpus:g} GPUs")
    return TrainingPool(fewest, most, 1.0, share)


def _cores_of_a_worker(cluster: Cluster, workers: int) -> float:
    """A share of the cluster's cores, whole ones of one node where there are enough, else a fraction of one."""
    share = cluster.cpus / workers
    return min(float(int(share)), cluster.node_cpus) if share >= 1 else max(share, 0.01)


class Notes:
    """What the first worker tells, until the driver asks: an actor, one a run."""

    def __init__(self) -> None:
        self._told: list[tuple[str, tuple[Any, ...]]] = []
        self._failure: ClipmillError | None = None

    def add(self, kind: str, *values: Any) -> None:
        """Takes one message for `clipmill.train.trainer.Told`."""
        self._told.append((kind, values))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What was told since the last time."""
        told, self._told = self._told, []
        return told

    def fail(self, error: ClipmillError) -> None:
        """Takes what ends the run: a worker that is started again would come to the same end."""
        self._failure = self._failure or error

    def failure(self) -> ClipmillError | None:
        """What ends the run, if anything has."""
        return self._failure


def train_on_ray(
    settings: TrainSettings, cluster_settings: ClusterSettings, work: Work, told: Told, reporter: Reporter
) -> ModelRecord:
    """Trains on the cluster's workers. A worker that is lost costs the steps since the last checkpoint.

    Raises what the workers raise, and UserError where they cannot be had.
    """
    settings = _reachable(settings)
    reporter.message("train", "connecting to Ray")
    with connect(cluster_settings) as found:
        cluster, decided = ready_to_encode(
            found, cluster_settings, lambda text: reporter.message("train", text), "training"
        )
        pool = training_pool(settings, cluster, decided.device)
        size = f"{pool.fewest}" if pool.fewest == pool.most else f"{pool.fewest} to {pool.most}"
        kind = f"{pool.gpus:g} GPUs" if pool.gpus else f"{pool.cpus:g} cores"
        reporter.message("train", f"starting {size} workers with {kind} each")
        notes = ray.remote(num_cpus=0)(Notes).remote()
        with _passed_on(notes, told, work):
            _fit(settings, pool, work, notes)
    record = finished_record(work.folder)
    assert record is not None
    return record


def _fit(settings: TrainSettings, pool: TrainingPool, work: Work, notes: Any) -> None:
    """Runs the workers until the model is there."""
    given = {"settings": settings, "folder": work.folder.uri, "dataset": work.dataset.uri, "notes": notes}
    trainer = TorchTrainer(
        _work,
        train_loop_config={**given, "threads": max(1, int(pool.cpus))},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if pool.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=pool.fewest if pool.fewest == pool.most else (pool.fewest, pool.most),  # type: ignore[arg-type]
            use_gpu=bool(pool.gpus),
            resources_per_worker={"CPU": pool.cpus, **({"GPU": pool.gpus} if pool.gpus else {})},
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=(work.folder / "ray").path,
            storage_filesystem=work.folder.filesystem,
            failure_config=FailureConfig(max_failures=_MOST_LOSSES),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise ray.get(notes.failure.remote()) or cause_of(error, "training") from error
    failure = ray.get(notes.failure.remote())
    if failure is not None:
        raise failure


def _work(given: dict[str, Any]) -> None:
    """One worker: Ray Train has connected it with the others."""
    import torch
    from ray.train.torch import get_device

    from clipmill import storage
    from clipmill.train.workers import Group

    enter_device([str(gpu) for gpu in ray.get_gpu_ids()], ray.util.get_node_ip_address())
    torch.set_num_threads(given["threads"])
    folder, dataset, notes = storage.resolve(given["folder"]), storage.resolve(given["dataset"]), given["notes"]

    def told(kind: str) -> Any:
        return lambda *values: notes.add.remote(kind, *values)

    if finished_record(folder) is not None or ray.get(notes.failure.remote()) is not None:
        return
    spoken = Told(told("step"), told("validation"))
    try:
        record = train_worker(given["settings"], folder, dataset, Group(), get_device(), spoken)
    except ClipmillError as error:
        ray.get(notes.fail.remote(error))
        raise
    if record is not None:
        note_finished(folder, record)


def _reachable(settings: TrainSettings) -> TrainSettings:
    """The same with local paths made absolute: workers have other working directories. Names of models, of tags and of sets of
    templates are no paths, and are left; a pattern is one though no file has its name."""
    found = {name: _absolute(getattr(settings, name)) for name in ("input", "validation")}
    if settings.mines:
        found["hard_negatives"] = _absolute(settings.hard_negatives)
    for name in ("model", "pretrained", "preprocessing", "templates"):
        given = getattr(settings, name) or ""
        if os.path.exists(given.removeprefix(LOCAL_DIR)):
            found[name] = _absolute(given.removeprefix(LOCAL_DIR))
    return settings.model_copy(update={name: place for name, place in found.items() if place})


def _absolute(place: str | None) -> str | None:
    return os.path.abspath(place) if place and "://" not in place else place


@contextmanager
def _passed_on(notes: Any, told: Told, work: Work) -> Iterator[None]:
    """Hands what workers tell to the user, and makes sure of the lease, for the length of the block."""
    ended = threading.Event()

    def listen() -> None:
        while not ended.wait(_POLL_SECONDS):
            _pass_on(notes, told)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    _pass_on(notes, told)
    work.lease.check()


def _pass_on(notes: Any, told: Told) -> None:
    for kind, values in ray.get(notes.take.remote()):
        (told.step if kind == "step" else told.validation)(*values)
