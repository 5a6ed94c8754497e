"""Opening a published index: nothing is loaded or used before it is known to be what the manifest says."""

import mmap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import IndexManifest, QueryTransform, RerankVectors
from clipmill.datasets.manifests import read_manifest
from clipmill.datasets.shards import Shard, read_shards
from clipmill.index.build.belong import vectors_belong
from clipmill.index.build.layout import PARTS, QUERY_TRANSFORM_FILE, RANGES_FILE, TRAINED_FILE, parts_of
from clipmill.index.build.part import IndexPart
from clipmill.index.build.train import codebook_sha256
from clipmill.index.faiss_file import read_index
from clipmill.index.search.rerank import StoredVectors
from clipmill.index.search.rows import RowTable
from clipmill.index.search.search import Index, ShardedIndex
from clipmill.index.sides import bare, behind
from clipmill.index.stored import Coding
from clipmill.storage import Location

Rows = list[NDArray[np.int64]]
_THREADS = 4


@dataclass(frozen=True)
class Common:
    """What all shards of an index share, as its manifest names it."""

    trained_sha256: str
    query_transform: QueryTransform | None = None
    rerank_vectors: RerankVectors = field(default_factory=RerankVectors)

    @staticmethod
    def of(manifest: IndexManifest) -> "Common":
        return Common(manifest.trained_sha256, manifest.query_transform, manifest.rerank_vectors)

    @property
    def parts(self) -> tuple[str, ...]:
        """The files of a shard."""
        return parts_of(self.rerank_vectors.kind)


def open_index(uri: str, cache: Path = DEFAULT_CACHE, *, resident: bool = False) -> Index:
    """Opens the index at ``uri``; one on S3 is copied to ``cache`` first, its files named by their sha256. Where ``resident``,
    stored vectors are read into memory and not mapped.

    Raises UserError when there is no index, RunFailed when a file is missing, altered or from another training.
    """
    location = storage.resolve(uri)
    manifest = read_manifest(location, IndexManifest)
    shards = read_shards(location, manifest.shards_sha256)
    sharded, table = open_files(location, shards, Common.of(manifest), cache, resident=resident)
    if sharded.n != manifest.n or sharded.dimension != manifest.dimension:
        raise RunFailed(
            f"{location}: its files hold {sharded.n} vectors of {sharded.dimension} dimensions, the manifest says "
            f"{manifest.n} of {manifest.dimension}; {_remedy()}"
        )
    return Index(manifest, sharded, table)


def open_part(
    uri: str, manifest: IndexManifest, numbers: range, cache: Path = DEFAULT_CACHE, *, resident: bool = False
) -> IndexPart:
    """As `open_index`, the shards of these numbers only, of an index whose manifest is known: a part of one too large for a
    process.

    Raises RunFailed as `open_index` does, and where another index has taken the place of the one in the manifest.
    """
    location = storage.resolve(uri)
    shards = read_shards(location, manifest.shards_sha256)
    common = Common.of(manifest)
    files = _by_part(location, shards, common)
    chosen = [shard for part in common.parts for shard in files[part][numbers.start : numbers.stop]]
    sharded, table = open_files(location, chosen, common, cache, resident=resident)
    return IndexPart(sharded, table, sum(shard.rows for shard in files["index"][: numbers.start]))


def open_files(
    location: Location, shards: list[Shard], common: Common, cache: Path, *, resident: bool = False
) -> tuple[ShardedIndex, RowTable]:
    """The searchable index that these files make, whether published or not yet.

    FAISS files are read only when their sha256 is right, since FAISS trusts what it reads; sidecars, which may be far
    larger than memory, are checked by size, shape and their first and last row.
    """
    files = _by_part(location, shards, common)
    cache = cache.expanduser()
    trained = _read_checked(location, Shard("index", TRAINED_FILE, 0, -1, common.trained_sha256, None, None), cache)
    like = trained if common.query_transform is None else bare(trained)
    codebooks = codebook_sha256(like)
    with ThreadPoolExecutor(_THREADS) as pool:
        opened = list(pool.map(lambda shard: _read_checked(location, shard, cache), files["index"]))
    for shard, index in zip(files["index"], opened, strict=True):
        if codebook_sha256(index) != codebooks:
            raise RunFailed(
                f"{shard.at(location)} comes from another training than {TRAINED_FILE} beside it, so its codes mean "
                f"nothing here; {_remedy()}"
            )
        if index.ntotal != shard.rows:
            raise RunFailed(f"{shard.at(location)} holds {index.ntotal} vectors and not {shard.rows}; {_remedy()}")
        _share_centroids(index, trained)
    stored, rows, table = _open_sidecars(location, files, common.rerank_vectors, trained.d, cache, resident=resident)
    for shard, index, vectors in zip(files["vectors"], opened, stored.shards, strict=bool(stored.shards)):
        if not vectors_belong(index, vectors, stored.coding, trained):
            raise RunFailed(f"{shard.at(location)} holds other vectors than the index beside it; {_remedy()}")
    if common.query_transform is not None:
        transform = _read_transform(location, common.query_transform, trained.d, cache)
        opened = [behind(transform, index) for index in opened]
    return ShardedIndex(trained, opened, stored, rows), table


def _read_transform(location: Location, expected: QueryTransform, dimension: int, cache: Path) -> NDArray[np.float32]:
    return _read_array(location, QUERY_TRANSFORM_FILE, expected.sha256, (expected.directions, dimension), cache)


def _read_array(location: Location, name: str, sha256: str, shape: tuple[int, int], cache: Path) -> NDArray[np.float32]:
    """A small array beside the trained index."""
    file = Shard("index", name, 0, -1, sha256, None, None)
    array: NDArray[np.float32] = np.load(_checked(location, file, cache), allow_pickle=False)
    if array.shape != shape:
        raise RunFailed(f"{location / name} is of shape {array.shape} and not {shape}; {_remedy()}")
    return array


def open_sidecars(uri: str, cache: Path = DEFAULT_CACHE) -> tuple[IndexManifest, StoredVectors, Rows, RowTable]:
    """What lies beside the FAISS files of an index, for whoever has others search these. Raises as `open_index` does."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, IndexManifest)
    files = _by_part(location, read_shards(location, manifest.shards_sha256), Common.of(manifest))
    opened = _open_sidecars(location, files, manifest.rerank_vectors, manifest.dimension, cache.expanduser())
    return manifest, *opened


def _open_sidecars(
    location: Location,
    files: dict[str, list[Shard]],
    how: RerankVectors,
    dimension: int,
    cache: Path,
    *,
    resident: bool = False,
) -> tuple[StoredVectors, Rows, RowTable]:
    mode: Mode = "resident" if resident else "c"  # `Refined` writes before them
    vectors = [_map_array(location, shard, cache, mode) for shard in files["vectors"]]
    ranges = None
    if how.ranges_sha256 is not None:
        ranges = _read_array(location, RANGES_FILE, how.ranges_sha256, (2, dimension), cache)
    coding = Coding(dimension, ranges)
    for shard, array in zip(files["vectors"], vectors, strict=True):
        if array.dtype != np.dtype(coding.dtype) or array.shape[1:] != (dimension,):
            raise RunFailed(
                f"{shard.at(location)} holds {array.dtype} of shape {array.shape} and not {coding.dtype} of "
                f"{(shard.rows, dimension)}; {_remedy()}"
            )
    rows = [_map_array(location, shard, cache, "r") for shard in files["rows"]]
    for shard, numbers in zip(files["rows"], rows, strict=True):
        if (int(numbers[0]), int(numbers[-1])) != (shard.first_row, shard.last_row):
            raise RunFailed(f"{shard.at(location)} holds the rows of another shard; {_remedy()}")
    starts = np.cumsum([0, *(shard.rows for shard in files["index"])], dtype=np.int64)
    table = RowTable([_local(location, shard, cache) for shard in files["row_table"]], starts)
    return StoredVectors(vectors, starts, coding), rows, table


def _by_part(location: Location, shards: list[Shard], common: Common) -> dict[str, list[Shard]]:
    """The files of each of `PARTS`, shard by shard. Raises RunFailed where they do not go together."""
    files = {part: [shard for shard in shards if shard.part == part] for part in PARTS}
    rows_by_part = [[shard.rows for shard in files[part]] for part in common.parts]
    if not rows_by_part[0] or any(rows != rows_by_part[0] for rows in rows_by_part):
        raise RunFailed(f"{location}: its shards and the files beside them do not hold the same rows; {_remedy()}")
    return files


def _remedy() -> str:
    return "build the index again with `clipmill index --overwrite`"


def _local(location: Location, shard: Shard, cache: Path) -> Path:
    """A local path of the file, of the size it should have."""
    place = shard.at(location)
    size = place.filesystem.get_file_info(place.path).size
    if size is None:
        raise RunFailed(f"{place} is missing; {_remedy()}")
    if shard.bytes >= 0 and size != shard.bytes:
        raise RunFailed(f"{place} has {size} bytes and not {shard.bytes}: it was cut short or altered; {_remedy()}")
    return storage.local_copy(place, cache, shard.sha256)


def _checked(location: Location, shard: Shard, cache: Path) -> Path:
    path = _local(location, shard, cache)
    found = storage.sha256(storage.resolve(path))
    if found != shard.sha256:
        raise RunFailed(
            f"{shard.at(location)} was altered: its sha256 is {found[:12]}… and not {shard.sha256[:12]}…; {_remedy()}"
        )
    return path


def _read_checked(location: Location, shard: Shard, cache: Path) -> Any:
    path = _checked(location, shard, cache)
    try:
        return read_index(str(path))
    except RuntimeError as error:
        raise RunFailed(
            f"{shard.at(location)} is no index that FAISS reads ({str(error)[-200:]}); {_remedy()}"
        ) from None


Mode = Literal["r", "c", "resident"]


def _map_array(location: Location, shard: Shard, cache: Path, mode: Mode) -> Any:
    path = _local(location, shard, cache)
    try:
        array = _in_memory(path) if mode == "resident" else np.load(path, mmap_mode=mode, allow_pickle=False)
    except ValueError as error:
        raise RunFailed(f"{shard.at(location)} is not the array it should be ({error}); {_remedy()}") from None
    if len(array) != shard.rows:
        raise RunFailed(f"{shard.at(location)} holds {len(array)} rows and not {shard.rows}; {_remedy()}")
    return array


def _in_memory(path: Path) -> NDArray[Any]:
    """An array in memory, behind the header of its file, as it lies in a map of it. Raises ValueError where it is none."""
    with path.open("rb") as file:
        held = mmap.mmap(-1, path.stat().st_size)
        file.readinto(held)
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.frombuffer(held, dtype, int(np.prod(shape)), offset=file.tell()).reshape(shape)


def _share_centroids(index: Any, trained: Any) -> None:
    """Frees the shard's own coarse centroids in favour of the trained index's, which are the same."""
    shard, owner = faiss.try_extract_index_ivf(index), faiss.try_extract_index_ivf(trained)
    if shard is None:
        return
    own = shard.quantizer
    shard.own_fields = False
    shard.quantizer = owner.quantizer
    own.__swig_destroy__(own)  # `thisown = True` instead corrupts memory when the second shard is freed
