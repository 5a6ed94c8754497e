"""The index graph on Ray: train once, hand the empty index to one task a shard, tune on the whole, publish.

Exact search of the tuning queries goes by the same runs of positions as the shards, beside the training.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import reduce
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import ray
from numpy.typing import NDArray

from pipeline import storage
from pipeline.datasets import vectors_of
from pipeline.errors import ClipmillError
from pipeline.flow.cluster import Cluster, cause_of
from pipeline.index.build import Build, Built, publish_index
from pipeline.index.exact import TopK, exact_top_k, merge_top_k
from pipeline.index.factory import from_bytes, nlist_of, to_bytes
from pipeline.index.fill import Filled, fill_shard
from pipeline.index.layout import TRAINED_FILE, ShardPlace
from pipeline.index.open import open_files
from pipeline.index.operate import Operation, choose_operating_point
from pipeline.index.queries import Queries, draw_queries
from pipeline.index.sample import sample_vectors
from pipeline.index.train import train_index
from pipeline.schemas import IndexManifest

_RETRIES = 3
_EXACT_BLOCK_ROWS = 16_384


def build_index(build: Build, cluster: Cluster, on_stage: Callable[[str], None]) -> IndexManifest:
    """Builds and publishes the index. ``on_stage`` is told in words what is being done.

    Raises RunFailed when a stage fails for good; nothing is published then.
    """
    started = datetime.now(timezone.utc)
    storage.remove(build.staging)
    storage.make_folder(build.staging)
    try:
        built = _run_graph(build, started, on_stage)
    except ClipmillError:
        raise
    except ray.exceptions.RayError as error:
        raise cause_of(error, "indexing") from error
    hardware = {"cpus": cluster.cpus, "gpus": cluster.gpus, "nodes": cluster.nodes}
    return publish_index(build, built, hardware)


def _run_graph(build: Build, started: datetime, on_stage: Callable[[str], None]) -> Built:
    cores = _cores_of_a_node()
    threads = max(1, cores // len(build.places))
    decorators: Any = ray
    task = decorators.remote(max_retries=_RETRIES, retry_exceptions=[OSError])

    def whole(function: Any, returns: int = 1) -> Any:
        return task(function).options(num_cpus=cores, num_returns=returns)

    def shared(function: Any) -> Any:
        return task(function).options(num_cpus=threads)

    on_stage(_training_message(build))
    shared_build = ray.put(build)
    queries, queries_seconds = whole(_draw_queries, 2).remote(shared_build, cores)
    trained, trained_sha256, train_seconds = whole(_train, 3).remote(shared_build, cores)
    exact = [shared(_exact).remote(shared_build, place, queries, threads) for place in build.places]
    filled_tasks = [shared(_fill).remote(shared_build, place, trained, threads) for place in build.places]
    ray.get(trained_sha256)
    on_stage(f"filling {len(build.places)} shards with {build.gallery.n:,} vectors")
    filled, fill_seconds = _gather(filled_tasks, build.places, on_stage)
    truths, exact_seconds = zip(*ray.get(exact), strict=True)
    on_stage(f"tuning for a recall of {build.settings.target_recall:g} on {build.settings.tuning_queries:,} queries")
    sha256 = ray.get(trained_sha256)
    tuned = whole(_tune).remote(shared_build, filled, sha256, queries, list(truths))
    operation, query_kind, tune_seconds = ray.get(tuned)
    seconds = {
        "queries": ray.get(queries_seconds),
        "train": ray.get(train_seconds),
        "exact search": sum(exact_seconds),
        "fill": sum(fill_seconds),
        "tune": tune_seconds,
    }
    return Built(started, sha256, filled, query_kind, operation, seconds)


def _gather(
    tasks: list[Any], places: list[ShardPlace], on_stage: Callable[[str], None]
) -> tuple[list[Filled], list[float]]:
    waiting = list(tasks)
    rows = dict(zip(tasks, (place.rows for place in places), strict=True))
    done = 0
    while waiting:
        ready, waiting = ray.wait(waiting)
        ray.get(ready)
        done += sum(rows[task] for task in ready)
        if len(tasks) > 1:
            on_stage(f"{done:,} of {sum(rows.values()):,} vectors are in {len(tasks) - len(waiting)} shards")
    results = ray.get(tasks)
    return [filled for filled, _ in results], [seconds for _, seconds in results]


def _training_message(build: Build) -> str:
    if not build.plan.training_rows:
        return f"{build.plan.factory}: nothing to train"
    return f"training {build.plan.factory} on {build.plan.training_rows:,} of {build.gallery.n:,} vectors"


def _cores_of_a_node() -> int:
    """Cores of the largest node: the most that one task can ask for."""
    return max(1, *(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]))


def _draw_queries(build: Build, threads: int) -> tuple[Queries, float]:
    began = _begin(threads)
    queries = draw_queries(build.gallery, build.settings.tuning_queries, build.settings.seed)
    return queries, time.perf_counter() - began


def _train(build: Build, threads: int) -> tuple[NDArray[np.uint8], str, float]:
    began = _begin(threads)
    plan, settings = build.plan, build.settings
    sample = sample_vectors(build.gallery, plan.training_rows, settings.seed)
    index = train_index(plan.factory, build.gallery.dimension, sample, settings.seed)
    data = to_bytes(index)
    storage.write_bytes(build.staging / TRAINED_FILE, data.tobytes())
    return data, storage.sha256(build.staging / TRAINED_FILE), time.perf_counter() - began


def _exact(build: Build, place: ShardPlace, queries: Queries, threads: int) -> tuple[TopK, float]:
    began = _begin(threads)
    return exact_top_k(queries.all, _blocks(build, place), build.settings.k), time.perf_counter() - began


def _blocks(build: Build, place: ShardPlace) -> Iterator[tuple[int, NDArray[np.float16]]]:
    position = place.start
    for batch in build.gallery.batches(place.start, place.stop, ["embedding"], _EXACT_BLOCK_ROWS):
        yield position, vectors_of(batch.column("embedding"))
        position += batch.num_rows


def _fill(build: Build, place: ShardPlace, trained: NDArray[np.uint8], threads: int) -> tuple[Filled, float]:
    began = _begin(threads)
    return fill_shard(build.gallery, place, from_bytes(trained), build.staging), time.perf_counter() - began


def _tune(
    build: Build, filled: list[Filled], trained_sha256: str, queries: Queries, truths: list[TopK]
) -> tuple[Operation, str, float]:
    began = _begin(1)
    settings = build.settings
    truth = reduce(lambda one, other: merge_top_k(one, other, settings.k), truths)
    files = [file for shard in filled for file in shard.files]
    with tempfile.TemporaryDirectory() as cache:
        sharded, _ = open_files(build.staging, files, trained_sha256, Path(cache))
        operation = choose_operating_point(
            sharded,
            queries,
            truth,
            settings.k,
            settings.target_recall,
            nlist=nlist_of(sharded.shards[0]),
            exact=build.plan.exact,
        )
    return operation, queries.kind, time.perf_counter() - began


def _begin(threads: int) -> float:
    logging.getLogger("faiss").setLevel(logging.ERROR)
    faiss.omp_set_num_threads(threads)
    return time.perf_counter()
