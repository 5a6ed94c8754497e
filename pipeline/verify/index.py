"""An index: its files are unaltered, its shards come from one training, and each position is one row of its embeddings."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.datasets import SHARDS_FILE, Shard, read_manifest, read_shards
from pipeline.errors import ClipmillError
from pipeline.index.gallery import Gallery
from pipeline.index.layout import TRAINED_FILE
from pipeline.schemas import IndexManifest, captions_schema, images_schema
from pipeline.storage import Location
from pipeline.verify.arrays import ArrayFile, check_ends, check_header
from pipeline.verify.codes import check_codes, check_codes_header, codebook_of
from pipeline.verify.fetch import counted, fetch, forget
from pipeline.verify.files import check_files, check_order
from pipeline.verify.findings import Findings, Progress
from pipeline.verify.parallel import in_order, threads_for
from pipeline.verify.parents import embeddings_of
from pipeline.verify.sidecars import Sidecar, Sidecars, check_sidecars
from pipeline.verify.tables import check_footer, open_parquet, reading

PARTS = ("index", "vectors", "rows", "row_table")
_QUICK_LEAVES_OUT = [
    "the bytes of the shards (--quick reads headers, footers and the ends of row arrays only): bit flips, vectors, "
    "single rows inside a shard, whether codes come from this training, and files of equal shape under swapped names",
    "rows and vectors against the embeddings",
]


@dataclass(frozen=True)
class IndexShard:
    """The four files of one shard, whose first row is position ``start``."""

    start: int
    index: Shard
    vectors: Shard
    rows: Shard
    row_table: Shard

    @property
    def files(self) -> tuple[Shard, Shard, Shard, Shard]:
        return self.index, self.vectors, self.rows, self.row_table


@dataclass(frozen=True)
class _Work:
    """What every check of a shard needs to know. ``schema`` is that of the row tables."""

    location: Location
    manifest: IndexManifest
    schema: pa.Schema


def verify_index(uri: str, *, quick: bool, progress: Progress) -> Findings:
    """Checks the index at ``uri``; ``quick`` reads headers, footers and small files only.

    Memory holds the codes of one shard and a batch of vectors a thread.
    """
    location = storage.resolve(uri)
    manifest = read_manifest(location, IndexManifest)
    findings = Findings("index", location.uri)
    try:
        files = read_shards(location, manifest.shards_sha256)
    except ClipmillError as error:
        findings.fault(str(error))
        findings.unchecked.append("the files of the index, since their list is damaged")
        return findings
    present = {file.path for file in check_files(location, files, (TRAINED_FILE, SHARDS_FILE), findings)}
    shards = _shards(files, findings)
    _check_counts(manifest, files, shards, findings)
    there = [shard for shard in shards if all(file.path in present for file in shard.files)]
    gallery = embeddings_of(manifest, findings)
    work = _Work(location, manifest, _row_table_schema(location, manifest, there))
    trained = _check_trained(location, manifest, findings)
    if quick:
        findings.unchecked += _QUICK_LEAVES_OUT
        _check_heads(work, there, findings, progress)
    else:
        if gallery is None:
            findings.unchecked.append("rows and vectors against the embeddings")
        _check_contents(work, there, trained, gallery, findings, progress)
    return findings


def _shards(files: list[Shard], findings: Findings) -> list[IndexShard]:
    """The files by shard; none, with a fault, where they do not go together."""
    parts = {part: [file for file in files if file.part == part] for part in PARTS}
    for part in sorted({file.part for file in files} - set(PARTS)):
        findings.fault(f"{SHARDS_FILE} lists a part {part!r}, which an index does not have")
    described = {tuple((file.rows, file.first_row, file.last_row) for file in parts[part]) for part in PARTS}
    if len(described) != 1:
        findings.fault(f"{SHARDS_FILE}: the codes and the files beside them do not hold the same rows")
        return []
    starts = np.cumsum([0, *(file.rows for file in parts["index"])], dtype=np.int64).tolist()
    return [IndexShard(*group) for group in zip(starts, *(parts[part] for part in PARTS), strict=False)]


def _check_counts(manifest: IndexManifest, files: list[Shard], shards: list[IndexShard], findings: Findings) -> None:
    rows = sum(file.rows for file in files if file.part == "index")
    findings.count("rows", rows)
    if rows != manifest.n:
        findings.fault(f"the shards hold {rows} rows, the manifest counts {manifest.n}")
    if shards and len(shards) != manifest.shards:
        findings.fault(f"there are {len(shards)} shards, the manifest counts {manifest.shards}")
    if manifest.model is not None and manifest.model.dimension != manifest.dimension:
        findings.fault(
            f"the manifest's dimension is {manifest.dimension}, that of its model {manifest.model.dimension}"
        )
    check_order((shard.rows for shard in shards), findings, repeats=manifest.gallery == "captions")


def _row_table_schema(location: Location, manifest: IndexManifest, shards: list[IndexShard]) -> pa.Schema:
    """Identity, caption, and the columns kept from the source, whose types are those of the first file."""
    if manifest.gallery == "captions":
        schema = captions_schema(manifest.dimension)
        return pa.schema([schema.field(name) for name in ("row", "id", "caption_index", "caption")])
    like = pa.schema([])
    if shards:
        first = location / shards[0].row_table.path
        parquet = reading(first.path, Findings("", ""), lambda: open_parquet(first))
        like = parquet.schema_arrow if parquet else like
    schema = images_schema(manifest.dimension)
    kept = [
        pa.field(name, like.field(name).type if name in like.names else pa.null()) for name in manifest.kept_columns
    ]
    return pa.schema([schema.field("row"), schema.field("id"), *kept])


def _check_trained(location: Location, manifest: IndexManifest, findings: Findings) -> bool:
    """Whether the trained index is the manifest's; that it is missing was said before."""
    trained = location / TRAINED_FILE
    if not storage.exists(trained):
        return False
    if storage.sha256(trained) == manifest.trained_sha256:
        return True
    findings.fault(f"{TRAINED_FILE} was altered, or comes from another index")
    return False


def _check_heads(work: _Work, shards: list[IndexShard], findings: Findings, progress: Progress) -> None:
    def head(shard: IndexShard) -> Findings:
        found = findings.part()
        check_codes_header(work.location / shard.index.path, shard.index, work.manifest.dimension, found)
        _check_sidecar_heads(work, shard, {}, found)
        return found

    with progress(4 * len(shards), "files") as advance:
        for found in in_order(head, shards, threads_for(local=work.location.is_local)):
            findings.add(found)
            advance(4)


def _check_sidecar_heads(work: _Work, shard: IndexShard, paths: dict[str, Path], findings: Findings) -> Sidecars | None:
    """The files beside the codes by their headers; None, with faults, where one is not as it should be.

    ``paths`` are local copies by name, where there are any.
    """

    def place(file: Shard) -> Location:
        return storage.resolve(paths[file.path]) if file.path in paths else work.location / file.path

    def sidecar(file: Shard, array: ArrayFile | None = None) -> Sidecar:
        return Sidecar(file, paths.get(file.path, Path()), array)

    shape = (shard.vectors.rows, work.manifest.dimension)
    vectors = check_header(place(shard.vectors), shard.vectors, "<f2", shape, findings)
    rows = check_header(place(shard.rows), shard.rows, "<i8", shape[:1], findings)
    ends = rows is not None and check_ends(place(shard.rows), shard.rows, rows, findings)
    table = reading(shard.row_table.path, findings, lambda: open_parquet(place(shard.row_table)))
    footer = table is not None and check_footer(table, shard.row_table, work.schema, findings)
    if vectors is None or not ends or not footer:
        return None
    return Sidecars(shard.start, sidecar(shard.vectors, vectors), sidecar(shard.rows, rows), sidecar(shard.row_table))


@dataclass(frozen=True)
class _Fetched:
    """A shard with the local paths of its sound files, and what was found while they were read."""

    shard: IndexShard
    paths: dict[str, Path]
    findings: Findings


def _check_contents(
    work: _Work,
    shards: list[IndexShard],
    trained: bool,
    gallery: Gallery | None,
    findings: Findings,
    progress: Progress,
) -> None:
    """Two stages of threads: files are read and hashed one by one, and shards looked into when their four are there."""
    threads = threads_for(local=work.location.is_local)
    files = [file for shard in shards for file in shard.files]
    with tempfile.TemporaryDirectory(prefix="clipmill-verify-") as folder:
        scratch = Path(folder)
        codebook = _codebook(work, scratch, findings) if trained else None
        with progress(sum(file.bytes for file in files), "B") as on_progress:
            advance = counted(on_progress)

            def read(file: Shard) -> tuple[Path | None, Findings]:
                found = findings.part()
                return fetch(work.location, file, scratch, found, advance), found

            def look(fetched: _Fetched) -> Findings:
                try:
                    _look_into(work, fetched, codebook, gallery)
                finally:
                    for path in fetched.paths.values():
                        forget(work.location, path)
                return fetched.findings

            for found in in_order(look, _by_shard(shards, in_order(read, files, threads), findings.part), threads):
                findings.add(found)


def _codebook(work: _Work, scratch: Path, findings: Findings) -> str | None:
    place = work.location / TRAINED_FILE
    path = storage.local_copy(place, scratch, work.manifest.trained_sha256)
    try:
        return codebook_of(path)
    except RuntimeError as error:
        findings.fault(f"{TRAINED_FILE} is not a FAISS index: {str(error).splitlines()[-1]}")
        return None


def _by_shard(
    shards: list[IndexShard], read: Iterator[tuple[Path | None, Findings]], part: Callable[[], Findings]
) -> Iterator[_Fetched]:
    for shard in shards:
        gathered = _Fetched(shard, {}, part())
        for file in shard.files:
            path, found = next(read)
            gathered.findings.add(found)
            if path is not None:
                gathered.paths[file.path] = path
        yield gathered


def _look_into(work: _Work, fetched: _Fetched, codebook: str | None, gallery: Gallery | None) -> None:
    shard, paths, findings = fetched.shard, fetched.paths, fetched.findings
    if any(file.path not in paths for file in (shard.vectors, shard.rows, shard.row_table)):
        return
    sidecars = _check_sidecar_heads(work, shard, paths, findings)
    if sidecars is None:
        return
    try:
        check_sidecars(sidecars, gallery, findings)
    except (pa.ArrowException, OSError, ClipmillError) as error:
        findings.fault(f"the files beside {shard.index.path} cannot be read: {str(error).splitlines()[0]}")
    if shard.index.path in paths and codebook is not None:
        vectors = sidecars.vectors if findings.whole else None
        check_codes(paths[shard.index.path], shard.index, work.manifest.dimension, codebook, vectors, findings)
