"""The steps of building an index. Each leaves its result in the staging folder, and does nothing where it is there.

So a step may be tried again after any failure, in any process; what was done is never done again. ``alive`` is called
when something was read or computed, in order that those who wait know that the step is moving.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import GALLERY_VECTORS, Interval, Promise, QueryTransform
from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.build import Build
from clipmill.index.build.factory import from_bytes, to_bytes
from clipmill.index.build.fill import fill_shard
from clipmill.index.build.foreign import Foreign, read_foreign, refuse_other_vectors
from clipmill.index.build.layout import QUERY_TRANSFORM_FILE, RANGES_FILE, TRAINED_FILE, ShardRange
from clipmill.index.build.operate import tune_all
from clipmill.index.build.projection import query_aware
from clipmill.index.build.queries import Queries, draw_gallery_queries, draw_queries
from clipmill.index.build.sample import sample_vectors
from clipmill.index.build.train import train_index
from clipmill.index.build.unfinished import (
    Drawn,
    FilledShard,
    Trained,
    Truth,
    Tuned,
    Unfinished,
    read_filled,
    read_record,
    write_record,
)
from clipmill.index.search.exact import TopK, best_of, empty_top_k, exact_top_k, merge_top_k, without_own
from clipmill.index.search.open import open_files
from clipmill.index.search.products import device_for
from clipmill.index.search.recall import hits, known_scores, recall_interval
from clipmill.index.search.rerank import StoredVectors
from clipmill.index.stored import Coding, ranges_of
from clipmill.stage.checkpoints import Made, load, save
from clipmill.stage.pieces import Alive, no_heartbeat
from clipmill.storage import Location

_EXACT_BLOCK_ROWS = 16_384
_RANGE_ROWS = 50_000
"""Vectors that tell in which ranges components lie."""
_BEAT_SECONDS = 5.0
_MISTAKEN = 2
"""So many times the results that are asked for are found exactly where stored vectors are not."""
_PROCESS_BYTES = 400_000_000
"""Of a worker with FAISS in it, before it has read anything."""


def draw(build: Build, alive: Alive = no_heartbeat) -> None:
    """Draws the queries to tune with."""
    place = Unfinished(build)
    if load(place.queries, Drawn) is None:
        began = time.perf_counter()
        settings = build.settings
        count, seed = settings.tuning_queries, settings.seed
        if build.searches is not None:
            queries = build.searches.drawn(count, seed, build.gallery.dimension)
        else:
            queries = draw_queries(build.gallery, count, seed, alive)
        several = not build.plan.exact and queries.kind != GALLERY_VECTORS and build.gallery.n > 1
        others = draw_gallery_queries(build.gallery, -(-count // 2), seed, alive) if several else None
        save(place.queries, Drawn(queries, others, time.perf_counter() - began))


def train(build: Build, alive: Alive = no_heartbeat) -> Trained:
    """Trains the index, with FAISS's threads. FAISS says nothing meanwhile: that the process lives is all there is."""
    place = Unfinished(build)
    found = read_record(place.trained, Trained)
    if found is not None:
        return found
    began = time.perf_counter()
    if build.foreign is not None:
        data, transform = _trained_elsewhere(build, build.foreign), None
    else:
        data, transform = _trained_here(build, alive)
    written = storage.write_bytes(place.dataset / TRAINED_FILE, data.tobytes())
    ranges = _find_ranges(build, alive) if build.rerank_kind == "int8" else None
    if transform is None:  # one that an attempt before this left would be published
        storage.remove(place.dataset / QUERY_TRANSFORM_FILE)
    seconds = time.perf_counter() - began
    trained = Trained(written.sha256, written.bytes, seconds, transform, ranges, build.plan.factory)
    write_record(place.trained, trained)
    return trained


def _trained_here(build: Build, alive: Alive) -> tuple[NDArray[np.uint8], QueryTransform | None]:
    plan, seed = build.plan, build.settings.seed
    sample = sample_vectors(build.gallery, plan.training_rows, seed, alive, dtype=np.float32)
    with _beating(alive):
        queries = _queries_to_learn_from(build) if plan.directions else None
        projection = None if queries is None else query_aware(queries, sample, plan.directions, seed)
        device = device_for(build.settings.products)
        data = to_bytes(train_index(plan.factory, build.gallery.dimension, sample, seed, device, projection))
    if queries is None or projection is None:
        return data, None
    sha256 = _write_array(Unfinished(build).dataset / QUERY_TRANSFORM_FILE, projection.queries)
    return data, QueryTransform(sha256=sha256, directions=plan.directions, queries=len(queries))


def _find_ranges(build: Build, alive: Alive) -> str:
    sample = sample_vectors(build.gallery, min(build.gallery.n, _RANGE_ROWS), build.settings.seed, alive)
    return _write_array(Unfinished(build).dataset / RANGES_FILE, ranges_of(sample))


def _write_array(location: Location, array: NDArray[np.float32]) -> str:
    """Its sha256."""
    stream = BytesIO()
    np.save(stream, array)
    return storage.write_bytes(location, stream.getvalue()).sha256


def _queries_to_learn_from(build: Build) -> NDArray[np.float32] | None:
    """Those that are tuned on, and none that confirm; None where they are vectors of the gallery."""
    queries = _drawn(Unfinished(build)).queries
    return queries.tuning if queries.own is None else None


def _trained_elsewhere(build: Build, foreign: Foreign) -> NDArray[np.uint8]:
    index = read_foreign(foreign)
    refuse_other_vectors(foreign, index, build.gallery)
    index.reset()
    return to_bytes(index)


def training_bytes(build: Build) -> int:
    """About what training takes of memory: the sample in float32, and FAISS's copy of it."""
    return _PROCESS_BYTES + 2 * 4 * build.plan.training_rows * build.gallery.dimension


def tuning_bytes(build: Build, trained: Trained) -> int:
    """About what tuning takes of memory: every shard at once. Raises RunFailed where one is missing."""
    records = read_filled(Unfinished(build), trained)
    return _PROCESS_BYTES + sum(
        file.bytes for record in records for file in record.filled.files if file.part == "index"
    )


def trained_bytes(build: Build, trained: Trained) -> NDArray[np.uint8]:
    """The trained index as it was staged. Raises RunFailed when it is another by now."""
    file = Unfinished(build).dataset / TRAINED_FILE
    data = storage.read_bytes(file)
    if hashlib.sha256(data).hexdigest() != trained.sha256:
        raise RunFailed(
            f"{file} is not the trained index that shards were made from; run the same command again to train anew"
        )
    return np.frombuffer(data, np.uint8)


def search_exactly(build: Build, shard: ShardRange, alive: Alive = no_heartbeat) -> None:
    """Finds the best of the shard's vectors for every query."""
    place = Unfinished(build)
    drawn = _drawn(place)
    k = _results_kept(build, drawn)
    found = load(place.truth(shard), Truth) if storage.exists(place.truth(shard)) else None
    # An earlier version may have taken fewer results, or of fewer queries.
    if found is not None and found.scores.shape == (len(drawn.all), k):
        return
    began = time.perf_counter()
    scores, positions = exact_top_k(drawn.all, _blocks(build, shard, alive), k, device_for(build.settings.products))
    save(place.truth(shard), Truth(scores, positions, time.perf_counter() - began))


def _blocks(build: Build, shard: ShardRange, alive: Alive) -> Iterator[tuple[int, NDArray[np.float16]]]:
    position = shard.start
    for batch in build.gallery.batches(shard.start, shard.stop, ["embedding"], _EXACT_BLOCK_ROWS):
        yield position, vectors_of(batch.column("embedding"))
        position += batch.num_rows
        alive()


def fill(
    build: Build, shard: ShardRange, data: NDArray[np.uint8], trained: Trained, alive: Alive = no_heartbeat
) -> None:
    """Fills a shard from the trained, empty index, whose bytes are ``data``; its record is written last."""
    place = Unfinished(build)
    found = read_record(place.shard(shard), FilledShard)
    if found is not None and found.trained_sha256 == trained.sha256:
        return
    began = time.perf_counter()
    index = from_bytes(data) if build.foreign is None else read_foreign(build.foreign)
    filled = fill_shard(
        build.gallery,
        shard,
        index,
        place.dataset,
        alive,
        holds_vectors=build.foreign is not None,
        without_transform=trained.query_transform is not None,
        coding=_coding(build, trained),
    )
    write_record(place.shard(shard), FilledShard(trained.sha256, filled, time.perf_counter() - began))


def _coding(build: Build, trained: Trained) -> Coding | None:
    """How vectors are stored; None where they are not."""
    if build.rerank_kind == "none":
        return None
    ranges = None
    if trained.ranges_sha256 is not None:
        ranges = np.load(BytesIO(storage.read_bytes(Unfinished(build).dataset / RANGES_FILE)), allow_pickle=False)
    return Coding(build.gallery.dimension, ranges)


def tune(build: Build, trained: Trained, alive: Alive = no_heartbeat) -> None:
    """Chooses the operating point of the whole index, measured on the queries."""
    place = Unfinished(build)
    if storage.exists(place.operation):
        return
    began = time.perf_counter()
    drawn = _drawn(place)
    k = _results_kept(build, drawn)
    truth, exact_seconds = empty_top_k(len(drawn.all), k), 0.0
    for shard in build.places:
        found = _kept(place.truth(shard), Truth)
        truth = merge_top_k(truth, found.top_k, k)
        exact_seconds += found.seconds
        alive()
    files = [file for record in read_filled(place, trained) for file in record.filled.files]
    with TemporaryDirectory() as cache, _beating(alive):
        sharded, _ = open_files(place.dataset, files, trained.common(build.rerank_kind), Path(cache))
        numbers, target = build.numbers_of_results, build.settings.target_recall
        tuned = tune_all(sharded, drawn.kinds, truth, numbers, target, exact=build.plan.exact, gallery=build.gallery)
        first, *others = tuned
        lossy = sharded.vectors.are_there and not sharded.vectors.are_exact
        of_vectors = _recall_of_stored(sharded.vectors, drawn.queries, truth, first[1]) if lossy else None
    promises = [
        Promise(query_kind=kind, k=k, target_met=operation.met, operating_point=operation.point)
        for kind, k, operation in others
    ]
    seconds = time.perf_counter() - began
    save(place.operation, Tuned(trained.sha256, first[2], promises, seconds, exact_seconds, of_vectors))


def _recall_of_stored(stored: StoredVectors, queries: Queries, truth: TopK, k: int) -> Interval:
    """The share of the exact ``k`` results that are among as many where all of ``truth`` is scored with stored vectors."""
    asked = queries.all
    kept = truth[0].shape[1] - (queries.own is not None)
    scores, positions = without_own((truth[0][: len(asked)], truth[1][: len(asked)]), queries.own, kept)
    wanted = int((positions[:, :k] >= 0).sum(axis=1).max())
    found = best_of(stored.scores(asked, positions), positions, wanted)[1]
    scored = known_scores((scores, positions), found, asked, None)
    return recall_interval(hits(scored, scores[:, :wanted]), wanted)


def _results_kept(build: Build, drawn: Drawn) -> int:
    """Of every query, so many that none of `numbers_of_results` lacks one, and more where it is to be seen which of them
    vectors that are not exact mistake for others."""
    most = max(queries.results_asked(max(build.numbers_of_results)) for queries in drawn.kinds)
    return most if build.rerank_kind == "float16" else min(_MISTAKEN * most, max(most, build.gallery.n))


def _drawn(place: Unfinished) -> Drawn:
    return _kept(place.queries, Drawn)


def _kept(location: Location, kind: type[Made]) -> Made:
    """What a step before left. Raises RunFailed where it cannot be read, and removes it: a name counts as done."""
    found = load(location, kind)
    if found is None:
        storage.remove(location)
        raise RunFailed(f"{location} is gone or damaged; run the same command again to make it anew")
    return found


@contextmanager
def _beating(alive: Alive) -> Iterator[None]:
    """Signs of life while FAISS works, which can give none itself."""
    ended = Event()

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            alive()

    thread = Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
