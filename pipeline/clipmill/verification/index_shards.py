"""The shards of an index one by one: their headers, or every byte of their files."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Reporter, Tally
from clipmill.datasets.shards import Shard
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.layout import TRAINED_FILE
from clipmill.index.stored import Coding
from clipmill.storage import Location
from clipmill.verification.arrays import ArrayFile, check_ends, check_header
from clipmill.verification.codes import Training, check_codes, check_codes_header
from clipmill.verification.fetch import fetch, forget
from clipmill.verification.findings import Findings
from clipmill.verification.parallel import Advance, Looking, in_order, threads_for
from clipmill.verification.sidecars import Sidecar, Sidecars, check_sidecars
from clipmill.verification.tables import check_footer, open_parquet, reading


@dataclass(frozen=True)
class IndexShard:
    """The files of one shard, whose first row is position ``start``; without vectors where the index has none."""

    start: int
    index: Shard
    rows: Shard
    row_table: Shard
    vectors: Shard | None = None

    @property
    def files(self) -> tuple[Shard, ...]:
        return self.index, *self.sidecars

    @property
    def name(self) -> str:
        return self.index.name

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def sidecars(self) -> tuple[Shard, ...]:
        """The files beside the codes."""
        vectors = () if self.vectors is None else (self.vectors,)
        return *vectors, self.rows, self.row_table


@dataclass(frozen=True)
class IndexWork:
    """What every check of a shard needs to know. ``schema`` is that of the row tables; ``coding`` that of stored vectors, None
    where a file that all shards share is not as it should be."""

    location: Location
    manifest: IndexManifest
    schema: pa.Schema
    coding: Coding | None


def check_heads(work: IndexWork, shards: list[IndexShard], findings: Findings, reporter: Reporter) -> None:
    """Headers, footers and the ends of row arrays."""

    def head(shard: IndexShard) -> Findings:
        found = findings.part()
        check_codes_header(shard.index.at(work.location), shard.index, work.manifest.dimension_of_shards, found)
        _check_sidecar_heads(work, shard, {}, found)
        return found

    tally = Tally(reporter, "verify", sum(len(shard.files) for shard in shards), "files")
    heads = in_order(head, shards, threads_for(local=work.location.is_local))
    for shard, found in zip(shards, heads, strict=True):
        findings.add(found)
        tally.add(len(shard.files))


def _check_sidecar_heads(
    work: IndexWork, shard: IndexShard, paths: dict[str, Path], findings: Findings
) -> Sidecars | None:
    """The files beside the codes by their headers; None, with faults, where one is not as it should be.

    ``paths`` are local copies by name, where there are any.
    """

    def place(file: Shard) -> Location:
        return storage.resolve(paths[file.name]) if file.name in paths else file.at(work.location)

    def sidecar(file: Shard, array: ArrayFile | None = None) -> Sidecar:
        return Sidecar(file, paths.get(file.name, Path()), array)

    shape = (shard.rows.rows, work.manifest.dimension)
    vectors = None
    if shard.vectors is not None:
        dtype = "<f2" if work.manifest.rerank_vectors.kind == "float16" else "|u1"
        array = check_header(place(shard.vectors), shard.vectors, dtype, shape, findings)
        vectors = None if array is None else sidecar(shard.vectors, array)
    rows = check_header(place(shard.rows), shard.rows, "<i8", shape[:1], findings)
    ends = rows is not None and check_ends(place(shard.rows), shard.rows, rows, findings)
    table = reading(shard.row_table.name, findings, lambda: open_parquet(place(shard.row_table)))
    footer = table is not None and check_footer(table, shard.row_table, work.schema, findings)
    if (vectors is None and shard.vectors is not None) or not ends or not footer:
        return None
    return Sidecars(shard.start, vectors, sidecar(shard.rows, rows), sidecar(shard.row_table))


@dataclass(frozen=True)
class _Fetched:
    """A shard with the local paths of its sound files, and what was found while they were read."""

    shard: IndexShard
    paths: dict[str, Path]
    findings: Findings


def check_contents(
    work: IndexWork,
    shards: list[IndexShard],
    gallery: Gallery | None,
    findings: Findings,
    reporter: Reporter,
    looking: Looking | None,
) -> None:
    """By ``looking`` a shard at a time, which reads its files itself; where that is None in two stages of threads: files are
    read and hashed one by one, and shards looked into when all of theirs are there."""
    threads = threads_for(local=work.location.is_local)
    files = [file for shard in shards for file in shard.files]
    tally = Tally(reporter, "verify", sum(file.bytes for file in files), "B")
    with tempfile.TemporaryDirectory(prefix="clipmill-verify-") as folder:
        scratch, advance = Path(folder), tally.add
        training = None if work.coding is None else _training(work, scratch, findings)
        if looking is not None:
            kind, whole = findings.kind, training is not None
            looking.each(partial(_look_at, work, gallery, kind, whole), shards, tally, findings.add)
            return

        def read(file: Shard) -> tuple[Path | None, Findings]:
            found = findings.part()
            return fetch(work.location, file, scratch, found, advance), found

        def look(fetched: _Fetched) -> Findings:
            try:
                _look_into(work, fetched, training, gallery)
            finally:
                for path in fetched.paths.values():
                    forget(work.location, path)
            return fetched.findings

        for found in in_order(look, _by_shard(shards, in_order(read, files, threads), findings.part), threads):
            findings.add(found)


def _look_at(
    work: IndexWork, gallery: Gallery | None, kind: str, whole: bool, advance: Advance, shard: IndexShard
) -> Findings:
    """All files of a shard, read here; codes are compared with the training where that is ``whole``."""
    findings = Findings(kind, work.location.uri)
    fetched = _Fetched(shard, {}, findings)
    with tempfile.TemporaryDirectory(prefix="clipmill-verify-") as folder:
        scratch = Path(folder)
        for file in shard.files:
            path = fetch(work.location, file, scratch, findings, advance)
            if path is not None:
                fetched.paths[file.name] = path
        _look_into(work, fetched, _kept_training(work) if whole else None, gallery)
    return findings


_TRAININGS: dict[str, Training] = {}
"""By the sha256 of its file, that of the index whose shards this process looks at."""


def _kept_training(work: IndexWork) -> Training | None:
    """Read once in a process, which looks at many shards; that it can be read was seen before."""
    name = work.manifest.trained_sha256
    if name not in _TRAININGS:
        with tempfile.TemporaryDirectory(prefix="clipmill-verify-") as folder:
            training = _training(work, Path(folder), Findings("", ""))
        _TRAININGS.clear()
        if training is None:
            return None
        _TRAININGS[name] = training
    return _TRAININGS[name]


def _training(work: IndexWork, scratch: Path, findings: Findings) -> Training | None:
    place = work.location / TRAINED_FILE
    path = storage.local_copy(place, scratch, work.manifest.trained_sha256)
    try:
        return Training.read(path, work.manifest)
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
                gathered.paths[file.name] = path
        yield gathered


def _look_into(work: IndexWork, fetched: _Fetched, training: Training | None, gallery: Gallery | None) -> None:
    shard, paths, findings = fetched.shard, fetched.paths, fetched.findings
    if any(file.name not in paths for file in shard.sidecars):
        return
    sidecars = _check_sidecar_heads(work, shard, paths, findings)
    if sidecars is None:
        return
    try:
        check_sidecars(sidecars, work.coding, gallery, findings)
    except (StorageFailed, StorageRefused):
        raise
    except (pa.ArrowException, OSError, ClipmillError) as error:
        findings.fault(f"the files beside {shard.index.name} cannot be read: {str(error).splitlines()[0]}")
    if shard.index.name in paths and training is not None and work.coding is not None:
        vectors = sidecars.vectors if findings.whole else None
        dimension = work.manifest.dimension_of_shards
        check_codes(paths[shard.index.name], shard.index, dimension, training, vectors, work.coding, findings)
