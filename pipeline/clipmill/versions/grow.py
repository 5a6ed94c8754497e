"""An index that grows from the one before: the same training, and the shards of which no vector came or went."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import IndexManifest
from clipmill.datasets.manifests import read_manifest
from clipmill.datasets.shards import Shard, read_shards, refer
from clipmill.index.build.build import Build
from clipmill.index.build.factory import from_bytes
from clipmill.index.build.fill import Filled
from clipmill.index.build.footprint import measured_footprint
from clipmill.index.build.layout import TRAINED_FILE, ShardRange, parts_of
from clipmill.index.build.plan import SHARD_ROWS
from clipmill.index.build.unfinished import FilledShard, Trained, Unfinished, write_record
from clipmill.index.faiss_file import read_index
from clipmill.storage import Location
from clipmill.versions.compact import compacted
from clipmill.versions.drift import Drift, gallery_error, measure_drift, runs_error
from clipmill.versions.new_rows import new_rows
from clipmill.versions.version import Training


@dataclass(frozen=True)
class Grown:
    """A build to be done. ``notes`` say whether it trains, and why; ``reuses`` is false where it does."""

    build: Build
    reuses: bool
    notes: list[str]


@dataclass(frozen=True)
class Stretch:
    """Positions ``start`` to ``stop`` − 1 of a gallery; ``shard`` is the number of the old shard that holds just these."""

    start: int
    stop: int
    shard: int | None


def grow(build: Build, base: Location, training: Training | None, *, same_vectors: bool) -> Grown:
    """Stages what can be taken from the index at ``base``, so that the build does the rest.

    ``training`` is what was written down of it; ``same_vectors``: rows that stayed have the vectors that they had. The
    caller owns the output. Raises RunFailed when a file of the old index is not what it should be.
    """
    manifest = read_manifest(base, IndexManifest)
    anew, build = build, _of_the_same_kind(build, manifest)
    why_not = _why_not(build, manifest, training, same_vectors=same_vectors)
    if why_not or training is None:
        return Grown(anew, False, [f"the index is trained: {why_not}"])
    data = storage.read_bytes(base / TRAINED_FILE)
    if hashlib.sha256(data).hexdigest() != manifest.trained_sha256:
        raise RunFailed(f"{base / TRAINED_FILE} was altered; `clipmill verify {base}` tells more")
    notes = ["the index keeps its training: there is nothing to train"]
    if training.error is not None or training.distance is not None:
        drift = _drift(build, base, training, from_bytes(np.frombuffer(data, np.uint8)))
        if drift.too_far:
            return Grown(anew, False, [f"the index is trained: {drift}"])
        notes = [f"the index keeps its training: {drift}"]
    files = read_shards(base, manifest.shards_sha256)
    stretches = _stretches(build, base, files) if build.settings.shards is None else []
    kept = [stretch for stretch in stretches if stretch.shard is not None]
    if kept:
        cuts = [stretch.start for stretch in stretches] + [build.gallery.n]
        build = replace(build, cuts=tuple(cuts))
        notes.append(f"{len(kept)} of {len(cuts) - 1} shards are as they were")
    _stage(build, base, manifest, data, files, stretches if kept else [])
    return Grown(build, True, notes)


def training_of(build: Build, index: Location) -> Training:
    """What is to be written down of an index that was just trained on this gallery."""
    manifest = read_manifest(index, IndexManifest)
    trained = from_bytes(np.frombuffer(storage.read_bytes(index / TRAINED_FILE), np.uint8))
    error = gallery_error(trained, build.gallery, build.settings.seed)
    return Training(sha256=manifest.trained_sha256, error=error)


def _drift(build: Build, base: Location, training: Training, trained: Any) -> Drift:
    """Of a training of 0.1.0, whose error was not written down, the rows of that time tell it that are still there."""
    new, old = new_rows(build.gallery, base)
    seed, then = build.settings.seed, training.error
    if then is None:
        then = runs_error(trained, build.gallery, old, seed) or 0.0
    return measure_drift(trained, build.gallery, new, then, seed)


def _of_the_same_kind(build: Build, manifest: IndexManifest) -> Build:
    """The build with the plan of the index that is there, where that is one of its own. Where an old training misses the
    target, it is trained anew before another kind is tried, so none follows."""
    kinds = [plan.factory for plan in build.plans]
    if manifest.factory not in kinds:
        return build
    return replace(build, attempt=kinds.index(manifest.factory), follows=False)


def _why_not(build: Build, manifest: IndexManifest, training: Training | None, *, same_vectors: bool) -> str:
    if not same_vectors:
        return "all vectors are new"
    if training is None or training.sha256 != manifest.trained_sha256:
        return "nothing is known of the training before"
    for what, before, now in (
        ("gallery", manifest.gallery, build.gallery.part),
        ("seed", manifest.configuration.get("seed"), build.settings.seed),
        ("form of the vectors for re-ranking", manifest.rerank_vectors.kind, build.rerank_kind),
    ):
        if before != now:
            return f"the {what} was {before} and is {now}"
    if manifest.factory != build.plan.factory:
        return f"{build.gallery.n:,} vectors want {build.plan.factory}, and there was {manifest.factory}"
    return ""


def _stretches(build: Build, base: Location, files: list[Shard]) -> list[Stretch]:
    """The gallery cut where old shards begin and end: a shard stays where all its rows and no others are there.

    Stretches between those that stay are cut evenly, the last old shard is filled up before another is begun, and small
    neighbours, of which most rows went, become one (`clipmill.versions.compact`).
    """
    found = list(_matched(build, base, [file for file in files if file.part == "rows"]))
    if len(found) > 1 and found[-1].shard is None:
        last = found[-2]
        if last.shard is not None and last.stop - last.start < SHARD_ROWS:
            found[-2:] = [Stretch(last.start, found[-1].stop, None)]
    ranges = compacted([stretch.stop - stretch.start for stretch in found], SHARD_ROWS)
    joined = [
        found[one.start] if len(one) == 1 else Stretch(found[one.start].start, found[one.stop - 1].stop, None)
        for one in ranges
    ]
    cut: list[Stretch] = []
    for stretch in joined:
        rows = stretch.stop - stretch.start
        pieces = 1 if stretch.shard is not None else -(-rows // SHARD_ROWS)
        bounds = [stretch.start + rows * piece // pieces for piece in range(pieces + 1)]
        cut += [Stretch(bounds[piece], bounds[piece + 1], stretch.shard) for piece in range(pieces)]
    return cut


def _matched(build: Build, base: Location, files: list[Shard]) -> Iterator[Stretch]:
    """Old shards that are there whole, and what lies between them; rows ascend in both."""
    position = changed = 0
    for number, file in enumerate(files):
        rows = _rows_of(base, file)
        here = _gallery_rows(build, position, min(position + len(rows), build.gallery.n))
        following = _gallery_rows(build, position + len(rows), min(position + len(rows) + 1, build.gallery.n))
        is_whole = np.array_equal(here, rows) and not (len(following) and following[0] == rows[-1])
        if is_whole:
            if changed < position:
                yield Stretch(changed, position, None)
            yield Stretch(position, position + len(rows), number)
            position = changed = position + len(rows)
        else:
            position += int(np.searchsorted(here, rows[-1], side="right"))
    if changed < build.gallery.n:
        yield Stretch(changed, build.gallery.n, None)


def _rows_of(base: Location, file: Shard) -> NDArray[np.int64]:
    path = storage.local_copy(file.at(base), DEFAULT_CACHE.expanduser(), file.sha256)
    rows: NDArray[np.int64] = np.load(path, mmap_mode="r", allow_pickle=False)
    return rows


def _gallery_rows(build: Build, start: int, stop: int) -> NDArray[np.int64]:
    if start >= stop:
        return np.empty(0, np.int64)
    batches = build.gallery.batches(start, stop, ["row"], 65_536)
    return np.concatenate([batch.column("row").to_numpy() for batch in batches])


def _stage(
    build: Build, base: Location, manifest: IndexManifest, trained: bytes, files: list[Shard], kept: list[Stretch]
) -> None:
    """Puts the training, and the shards that stay, where the build finds them as done."""
    place = Unfinished(build)
    build.staging.open()
    ranges = manifest.rerank_vectors.ranges_sha256
    training = Trained(manifest.trained_sha256, len(trained), 0.0, manifest.query_transform, ranges, manifest.factory)
    storage.remove(place.attempts)
    for name in training.files:
        storage.reference(base / name, place.dataset / name)
    write_record(place.trained, training)
    names = parts_of(manifest.rerank_vectors.kind)
    parts = {part: [file for file in files if file.part == part] for part in names}
    for stretch, shard in zip(kept, build.places, strict=False):
        if stretch.shard is not None:
            old = [parts[part][stretch.shard] for part in names]
            filled = _taken_over(base, old, shard, place.dataset)
            write_record(place.shard(shard), FilledShard(manifest.trained_sha256, filled, 0.0))


def _taken_over(base: Location, old: list[Shard], shard: ShardRange, dataset: Location) -> Filled:
    """An old shard under the names of the new one: FAISS numbers its vectors from 0 in every shard."""
    names = [shard.file(file.part) for file in old]
    index = _read_index(old[0].at(base), old[0].sha256)
    if not base.is_local:
        return Filled([refer(file, base) for file in old], measured_footprint(index))
    for file, name in zip(old, names, strict=True):
        storage.reference(file.at(base), dataset / name)
    return Filled(
        [replace(file, path=name, version=None) for file, name in zip(old, names, strict=True)],
        measured_footprint(index),
    )


def _read_index(location: Location, digest: str) -> Any:
    path = Path(storage.local_copy(location, DEFAULT_CACHE.expanduser(), digest))
    if storage.sha256(storage.resolve(path)) != digest:
        raise RunFailed(f"{location} was altered; `clipmill verify` tells more")
    try:
        return read_index(str(path))
    except RuntimeError as error:
        raise RunFailed(f"{location} is no index that FAISS reads ({str(error)[-200:]}); build it again") from None
