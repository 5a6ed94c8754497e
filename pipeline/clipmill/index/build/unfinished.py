"""What is done of an index that is not finished: records in its staging folder, each written after what it speaks of.

    queries.npz        the queries to tune with
    truths/00007.npz   their exact results in shard 7, taken as done by its name and removed where it cannot be read
    attempt.json       the kinds of index that missed the target, once one has: the next of the build's plans is followed
    trained.json       the training: dataset/trained.faiss is never made again
    shards/00007.json  shard 7 is filled: its files in dataset/
    operation.npz      the tuned operating point

Training again gives other codebooks, so what was made with one training is worth nothing under another: every record
but those of queries and truths names the sha256 of the trained index that it was made with.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Interval, Promise, QueryTransform, RerankVectors, Sha256, Tried
from clipmill.core.schemas import RerankKind
from clipmill.index.build.build import Build
from clipmill.index.build.fill import Filled
from clipmill.index.build.footprint import Footprint, add_shard
from clipmill.index.build.layout import QUERY_TRANSFORM_FILE, RANGES_FILE, TRAINED_FILE, ShardRange
from clipmill.index.build.operate import Operation
from clipmill.index.build.queries import Queries
from clipmill.index.search.exact import TopK
from clipmill.index.search.open import Common
from clipmill.stage.checkpoints import load
from clipmill.stage.staging import Started
from clipmill.storage import Location

_THREADS = 16
Recorded = TypeVar("Recorded")


@dataclass(frozen=True)
class Trained:
    """A training that is done, and the seconds it took. ``query_transform`` is None where queries pass the same transforms as
    vectors, ``ranges_sha256`` where vectors are not stored as bytes."""

    sha256: Sha256
    bytes: int
    seconds: float
    query_transform: QueryTransform | None = None
    ranges_sha256: Sha256 | None = None
    factory: str | None = None

    @property
    def files(self) -> dict[str, str]:
        """Its files and their sha256."""
        transform = self.query_transform
        found = {TRAINED_FILE: self.sha256} | ({QUERY_TRANSFORM_FILE: transform.sha256} if transform else {})
        return found | ({RANGES_FILE: self.ranges_sha256} if self.ranges_sha256 else {})

    def common(self, kind: RerankKind) -> Common:
        """What all shards that are filled from it share, whose vectors are stored so."""
        return Common(self.sha256, self.query_transform, RerankVectors(kind=kind, ranges_sha256=self.ranges_sha256))


@dataclass(frozen=True)
class FilledShard:
    """A shard that was filled with vectors, and the seconds it took."""

    trained_sha256: Sha256
    filled: Filled
    seconds: float


@dataclass(frozen=True)
class Attempts:
    """The kinds of index that were built and ``missed`` the target, in order, and the number of the plan that is followed."""

    attempt: int
    missed: list[Tried]


_RECORDS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Trained, FilledShard, Attempts)}


@dataclass(frozen=True)
class Drawn:
    """The queries, and the seconds it took to draw them. ``alike`` are queries like what is in the gallery, where ``queries``
    are others and the index has something to tune."""

    queries: Queries
    alike: Queries | None
    seconds: float

    @property
    def kinds(self) -> list[Queries]:
        return [self.queries, *([] if self.alike is None else [self.alike])]

    @property
    def all(self) -> NDArray[np.float32]:
        """All queries (q, d), kind by kind."""
        return np.concatenate([queries.all for queries in self.kinds])


@dataclass(frozen=True)
class Truth:
    """The exact results of all drawn queries in one shard, by position in the gallery; ``seconds`` is what it took."""

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]
    seconds: float

    @property
    def top_k(self) -> TopK:
        return self.scores, self.positions


@dataclass(frozen=True)
class Tuned:
    """The operating points of the index made with this training, and the seconds it took to find them; ``exact_seconds`` are
    those of all exact searches before, ``of_vectors`` is the recall of stored vectors that are not exact."""

    trained_sha256: str
    operation: Operation
    promises: list[Promise]
    seconds: float
    exact_seconds: float
    of_vectors: Interval | None = None


@dataclass(frozen=True)
class Unfinished:
    """Where the parts of a build lie before it is published."""

    build: Build

    @property
    def dataset(self) -> Location:
        return self.build.staging.dataset

    @property
    def queries(self) -> Location:
        return self.build.staging.folder / "queries.npz"

    @property
    def truths(self) -> Location:
        return self.build.staging.folder / "truths"

    def truth(self, place: ShardRange) -> Location:
        return self.truths / f"{place.number:05d}.npz"

    @property
    def attempts(self) -> Location:
        return self.build.staging.folder / "attempt.json"

    @property
    def trained(self) -> Location:
        return self.build.staging.folder / "trained.json"

    def shard(self, place: ShardRange) -> Location:
        return self.build.staging.folder / "shards" / f"{place.number:05d}.json"

    @property
    def operation(self) -> Location:
        return self.build.staging.folder / "operation.npz"


@dataclass(frozen=True)
class Progress:
    """What is left to do of a build: nothing of what earlier starts did is in it."""

    start: Started
    trained: Trained | None
    to_search: list[ShardRange]
    to_fill: list[ShardRange]


def find_progress(build: Build, start: Callable[[int], Started]) -> Progress:
    """What earlier starts did and what is left to do, from the records in the staging folder. ``start`` records that work
    begins now, and how many rows were done before.

    A record whose files are gone, cut short or of another training counts for nothing, and is removed.
    """
    place = Unfinished(build)
    trained = _sound_training(place)
    filled = _sound_shards(place, trained)
    if trained is None or _tuned_with(place) != trained.sha256:
        storage.remove(place.operation)
    if load(place.queries, Drawn) is None:
        storage.remove(place.truths)
    searched = {int(_stem(info.path)) for info in storage.list_files(place.truths) if info.path.endswith(".npz")}
    return Progress(
        start(sum(shard.rows for shard in build.places if shard.number in filled)),
        trained,
        to_search=[shard for shard in build.places if shard.number not in searched],
        to_fill=[shard for shard in build.places if shard.number not in filled],
    )


def _sound_training(place: Unfinished) -> Trained | None:
    trained = read_record(place.trained, Trained)
    other = trained is not None and trained.factory not in (None, place.build.plan.factory)
    if trained and not other and all(_is(place.dataset / name, sha256) for name, sha256 in trained.files.items()):
        return trained
    storage.remove(place.trained)
    return None


def _is(file: Location, sha256: str) -> bool:
    return storage.exists(file) and storage.sha256(file) == sha256


def _sound_shards(place: Unfinished, trained: Trained | None) -> set[int]:
    """Numbers of the shards that need not be filled again; records of others are removed."""
    sizes = {info.base_name: info.size for info in storage.list_files(place.dataset)}

    def is_sound(record: Location) -> bool:
        found = read_record(record, FilledShard)
        if found and trained and found.trained_sha256 == trained.sha256:
            return all(file.version or sizes.get(file.path) == file.bytes for file in found.filled.files)
        return False

    staging = place.build.staging
    records = [staging.folder / "shards" / info.base_name for info in storage.list_files(staging.folder / "shards")]
    with ThreadPoolExecutor(_THREADS) as pool:
        sound = list(pool.map(is_sound, records))
    for record, kept in zip(records, sound, strict=True):
        if not kept:
            storage.remove(record)
    return {int(_stem(record.path)) for record, kept in zip(records, sound, strict=True) if kept}


def _tuned_with(place: Unfinished) -> str | None:
    tuned = load(place.operation, Tuned)
    return tuned.trained_sha256 if tuned else None


def resident_bytes(trained: Trained, shards: list[FilledShard], dimension: int) -> Footprint:
    """What search keeps of an index in memory."""
    footprint = reduce(add_shard, (shard.filled.footprint for shard in shards))
    if trained.query_transform is None:
        return footprint
    return replace(footprint, rotation=4 * trained.query_transform.directions * dimension)  # shared by all shards


def read_filled(place: Unfinished, trained: Trained) -> list[FilledShard]:
    """The records of all shards, in order.

    Raises RunFailed when one is missing, or of another training: a worker may outlive the driver that started it.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda shard: read_record(place.shard(shard), FilledShard), place.build.places))
    filled = [record for record in found if record is not None and record.trained_sha256 == trained.sha256]
    if len(filled) < len(found):
        raise RunFailed(
            f"{len(found) - len(filled)} shards in {place.dataset} are gone or of another training; run the same command "
            "again to fill them"
        )
    return filled


def read_record(location: Location, kind: type[Recorded]) -> Recorded | None:
    """A record, or None where there is none that can be read."""
    try:
        return cast(Recorded, _RECORDS[kind].validate_json(storage.read_bytes(location)))
    except (FileNotFoundError, ValidationError):
        return None


def write_record(location: Location, record: Trained | FilledShard | Attempts) -> None:
    """A record as JSON, whole or not at all."""
    storage.write_bytes(location, _RECORDS[type(record)].dump_json(record))


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]
