"""Merging the shards of a finished index into one, with neither training nor adding again.

The shard files are memory-mapped, and the new one is written list by list: FAISS's own merge into lists on disk leaves
an index that names another file by its path, and merging in memory needs room for all codes. Which lists can be
joined so is decided by type, since FAISS does not refuse all that it corrupts.
"""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import IndexManifest, Run
from clipmill.datasets.manifests import (
    MANIFEST,
    Shard,
    has_manifest,
    read_manifest,
    read_shards,
    refuse_differences,
    write_manifest,
    write_shards,
)
from clipmill.index.build.factory import empty_index, from_bytes, to_bytes
from clipmill.index.build.fill import BATCH_ROWS, ROW_GROUP_ROWS, write_npy_header
from clipmill.index.build.layout import TRAINED_FILE, ShardPlace, places
from clipmill.index.search.open import DEFAULT_CACHE, open_files, open_index
from clipmill.index.search.rows import RowTable
from clipmill.index.search.search import ShardedIndex
from clipmill.stage.staging import Staging
from clipmill.storage import Location, Written
from clipmill.storage.lease import owned

_LISTS_HEAD = struct.Struct("<4sQQ4sQ")
"""How FAISS begins the inverted lists of a file: name, lists, bytes of a code, how sizes are stored, how many numbers
these are. Sizes follow, then the codes and the ids of each list that is not empty."""
_MERGED_FROM = "merged_from"


@dataclass(frozen=True)
class Merge:
    """Everything that merging an index does, fixed before it starts. ``manifest_sha256`` is that of the source."""

    source: Location
    manifest: IndexManifest
    manifest_sha256: str
    output: Location
    overwrite: bool

    @cached_property
    def staging(self) -> Staging:
        return Staging(self.output, {"index": self.manifest_sha256, "version of FAISS": faiss.__version__})

    @property
    def place(self) -> ShardPlace:
        return places(self.manifest.n, 1)[0]

    @property
    def configuration(self) -> dict[str, Any]:
        """That of the source, with one shard, and which index was merged."""
        return {**self.manifest.configuration, "shards": 1, _MERGED_FROM: self.manifest_sha256}


def make_merge(index: str, output: str, *, overwrite: bool = False) -> Merge:
    """Reads what is to be merged. Raises UserError for what is no index, has one shard already, or cannot be merged."""
    source, place = storage.resolve(index), storage.resolve_output(output)
    if f"{place.path}/".startswith(f"{storage.resolve_output(index).path}/"):
        raise UserError(f"--output {output} lies in the index that is merged; choose another place")
    manifest = read_manifest(source, IndexManifest)
    if manifest.shards == 1:
        raise UserError(f"{source} has one shard, so there is nothing to merge; use it as it is")
    refuse_unmergeable(manifest.factory, empty_index(manifest.factory, manifest.dimension))
    return Merge(source, manifest, storage.sha256(source / MANIFEST), place, overwrite)


def finished_merge(merge: Merge) -> IndexManifest | None:
    """The manifest of the index at the output, if it is the merge of this very index; None where there is none.

    With ``overwrite`` it counts only where a run of this merge was killed after it had published.

    Raises OutputDiffers when another index is there and ``overwrite`` is not set, and RunFailed when its list of files
    is missing or altered.
    """
    if not has_manifest(merge.output, IndexManifest):
        return None
    if merge.overwrite and not merge.staging.is_published():
        return None
    manifest = read_manifest(merge.output, IndexManifest)
    if manifest.configuration.get(_MERGED_FROM) != merge.manifest_sha256:
        refuse_differences(merge.output, [f"it was not merged from {merge.source}, or that was made anew since"])
    read_shards(merge.output, manifest.shards_sha256)
    return manifest


def merge_index(merge: Merge, on_stage: Callable[[str], object], cache: Path = DEFAULT_CACHE) -> IndexManifest:
    """Makes and publishes an index of one shard that finds what the shards of the source find.

    ``on_stage`` is told in words what is being done. Memory holds the trained index, for a moment as many copies of its
    centroids as there are shards, and a batch of rows. A source on S3 is copied to ``cache`` first.

    Raises RunFailed when a file of the source is missing, altered or of another training, and UserError when its type
    cannot be merged; nothing is published then.
    """
    with owned(storage.staging_of(merge.output)) as ownership:
        if not merge.overwrite:
            merge.staging.refuse_others()
        started, began = datetime.now(timezone.utc), time.perf_counter()
        on_stage(f"checking the {merge.manifest.shards} shards of {merge.source}")
        shards = read_shards(merge.source, merge.manifest.shards_sha256)
        _refuse_altered(merge.source, [shard for shard in shards if shard.part != "index"], cache)
        index = open_index(merge.source.uri, cache, mapped=True)
        _refuse_incompatible(merge, index.sharded)
        merge.staging.open(overwrite=merge.overwrite)  # not before: there is nothing to continue of a source at fault
        earlier = merge.staging.note_start(0).earlier
        on_stage(f"merging them: {merge.manifest.n:,} vectors")
        files = _write_shard(merge, shards, index.sharded, index.table)
        trained = storage.local_copy(merge.source / TRAINED_FILE, cache.expanduser(), merge.manifest.trained_sha256)
        storage.write_bytes(merge.staging.dataset / TRAINED_FILE, trained.read_bytes())
        on_stage("checking what was written")
        _refuse_unreadable(merge, files)
        seconds = round(time.perf_counter() - began, 3)
        run = Run(
            started=started,
            finished=datetime.now(timezone.utc),
            rows_encoded=0,
            rows_reused=merge.manifest.n,
            limited_by="merge",
        )
        manifest = merge.manifest.model_copy(
            update={
                "shards": 1,
                "configuration": merge.configuration,
                "shards_sha256": write_shards(merge.staging.dataset, files),
                "runs": [*merge.manifest.runs, *earlier, run],
                "stage_seconds": {**merge.manifest.stage_seconds, "merge": seconds},
            }
        )
        write_manifest(merge.staging.dataset, manifest)
        ownership.check()
        merge.staging.publish()
        return manifest


def refuse_unmergeable(factory: str, index: Any) -> None:
    """Raises UserError for an index whose shards cannot be joined list by list; ``factory`` names it."""
    if _plain_lists(index) is None:
        raise UserError(
            f"{factory} cannot be merged: only plain inverted lists can (IVF..,Flat, IVF..,SQ8, IVF..,PQ.. without fast "
            "scan, also after OPQ or PCA); build it with `clipmill index --embeddings URI --shards 1` instead"
        )


def _plain_lists(index: Any) -> Any:
    """The index inside, which lives as long as ``index``, if its lists hold a code and an id a vector and nothing else;
    otherwise None.

    By exact type: fast scan packs vectors in blocks, and other kinds of lists are subclasses of these.
    """
    inner = faiss.downcast_index(index)
    if type(inner) is faiss.IndexPreTransform:
        inner = faiss.downcast_index(inner.index)
    plain = (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)
    return inner if type(inner) in plain else None


def _refuse_altered(source: Location, files: Sequence[Shard], cache: Path) -> None:
    """The files beside the shards: the merged ones get a sha256 of their own, which must not vouch for damage."""
    for file in files:
        place = source / file.path
        if not storage.exists(place):
            raise RunFailed(f"{place} is missing; build the index again with `clipmill index --overwrite`")
        path = storage.local_copy(place, cache.expanduser(), file.sha256)
        if storage.sha256(storage.resolve(path)) != file.sha256:
            raise RunFailed(f"{place} was altered; build the index again with `clipmill index --overwrite`")


def _refuse_incompatible(merge: Merge, sharded: ShardedIndex) -> None:
    """Shards of the right codebooks that are of another type after all, or store their codes in another way."""
    refuse_unmergeable(merge.manifest.factory, sharded.trained)
    try:
        for shard in sharded.shards:
            sharded.trained.check_compatible_for_merge(shard)
    except RuntimeError as error:
        raise RunFailed(f"{merge.source}: its shards cannot be merged: {str(error).splitlines()[0]}") from None


def _write_shard(merge: Merge, shards: Sequence[Shard], sharded: ShardedIndex, table: RowTable) -> list[Shard]:
    """Writes the four files of the one shard, and describes them."""
    place, dataset = merge.place, merge.staging.dataset
    written = {
        ("index", place.index_file): _write_lists(sharded, dataset / place.index_file),
        ("vectors", place.vectors_file): _write_array(
            "<f2", (sharded.n, sharded.dimension), sharded.vectors.shards, dataset / place.vectors_file
        ),
        ("rows", place.rows_file): _write_array("<i8", (sharded.n,), sharded.rows, dataset / place.rows_file),
        ("row_table", place.row_table_file): _write_table(table, dataset / place.row_table_file),
    }
    first, last = shards[0].first_row, shards[-1].last_row
    return [
        Shard(part, path, sharded.n, file.bytes, file.sha256, first, last) for (part, path), file in written.items()
    ]


def _write_lists(sharded: ShardedIndex, location: Location) -> Written:
    """The trained index with the lists of all shards, as `faiss.write_index` writes it from memory."""
    merged = from_bytes(to_bytes(sharded.trained))
    inner = _plain_lists(merged)
    merged.ntotal = inner.ntotal = sharded.n
    nlist, code_size = int(inner.nlist), int(inner.code_size)
    empty = _LISTS_HEAD.pack(b"ilar", nlist, code_size, b"sprs", 0)
    head = to_bytes(merged).tobytes()
    if not head.endswith(empty):
        raise RunFailed(f"FAISS {faiss.__version__} writes lists in another way than is known here; upgrade clipmill")
    lists = [_plain_lists(shard).invlists for shard in sharded.shards]
    sizes = np.array([[part.list_size(number) for part in lists] for number in range(nlist)], np.int64)
    with storage.atomic_writer(location) as stream:
        stream.write(head.removesuffix(empty))
        stream.write(_sizes(sizes.sum(axis=1), code_size))
        for number in np.flatnonzero(sizes.sum(axis=1)).tolist():
            parts = [shard for shard in range(len(lists)) if sizes[number, shard]]
            for shard in parts:
                codes = lists[shard].get_codes(number)
                stream.write(faiss.rev_swig_ptr(codes, int(sizes[number, shard]) * code_size))
            for shard in parts:
                ids = faiss.rev_swig_ptr(lists[shard].get_ids(number), int(sizes[number, shard]))
                stream.write((ids + sharded.vectors.starts[shard]).astype("<i8"))
    return stream.written


def _sizes(sizes: NDArray[np.int64], code_size: int) -> bytes:
    """The beginning of the lists in a file, for lists of these ``sizes`` (nlist,): all, or where few are filled those."""
    filled = np.flatnonzero(sizes)
    full = len(filled) > len(sizes) // 2
    numbers = sizes if full else np.stack([filled, sizes[filled]], axis=1).reshape(-1)
    head = _LISTS_HEAD.pack(b"ilar", len(sizes), code_size, b"full" if full else b"sprs", len(numbers))
    return head + numbers.astype("<u8").tobytes()


def _write_array(dtype: str, shape: tuple[int, ...], parts: Sequence[NDArray[Any]], location: Location) -> Written:
    with storage.atomic_writer(location) as stream:
        write_npy_header(stream, dtype, shape)
        for part in parts:
            for start in range(0, len(part), BATCH_ROWS):
                stream.write(np.ascontiguousarray(part[start : start + BATCH_ROWS], dtype=dtype))
    return stream.written


def _write_table(table: RowTable, location: Location) -> Written:
    with ExitStack() as stack:
        stream = stack.enter_context(storage.atomic_writer(location))
        writer = stack.enter_context(pq.ParquetWriter(stream, table.schema, compression="zstd"))
        for batch in _batches(table):
            writer.write_table(batch, row_group_size=ROW_GROUP_ROWS)
    return stream.written


def _batches(table: RowTable) -> Iterator[Any]:
    for shard in range(len(table.paths)):
        yield from table.batches(shard, table.columns, BATCH_ROWS)


def _refuse_unreadable(merge: Merge, files: list[Shard]) -> None:
    """Opens what was staged as a search would, before anyone else can."""
    with TemporaryDirectory() as cache:
        sharded, _ = open_files(merge.staging.dataset, files, merge.manifest.trained_sha256, Path(cache), mapped=True)
        inner = _plain_lists(sharded.shards[0])
        if inner is None or inner.invlists.compute_ntotal() != merge.manifest.n:
            raise RunFailed(f"{merge.staging.dataset}: the merged lists do not hold {merge.manifest.n} vectors")
