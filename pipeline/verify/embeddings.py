"""An embeddings dataset: every input row is one image or one reject, every caption likewise, every vector is sound."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import storage
from pipeline.datasets import INPUTS_FILE, SHARDS_FILE, Embeddings, Shard, vectors_of
from pipeline.errors import ClipmillError
from pipeline.schemas import ORDINAL_SHIFT
from pipeline.verify.files import check_files
from pipeline.verify.findings import Findings

UNIT_TOLERANCE = 2e-3
_MOST_IDS = 50_000_000
_ROW_MASK = (1 << ORDINAL_SHIFT) - 1


def verify_embeddings(uri: str, *, quick: bool, on_progress: Callable[[int], None]) -> Findings:
    """Checks the dataset at ``uri``; ``quick`` looks at sizes and footers only. ``on_progress`` is given bytes read.

    Memory holds one source file's row numbers, one batch of vectors, and 8 bytes an image to look for repeated ids.
    """
    dataset = Embeddings.open(uri)
    findings = Findings("embeddings", dataset.location.uri)
    if not storage.exists(dataset.location / INPUTS_FILE):
        findings.fault(f"{INPUTS_FILE} is missing")
        return findings
    if storage.sha256(dataset.location / INPUTS_FILE) != dataset.manifest.inputs_sha256:
        findings.fault(f"{INPUTS_FILE} is not the one that the manifest was written with")
        return findings
    try:
        shards = dataset.shards
    except ClipmillError as error:
        findings.fault(str(error))
        return findings
    sound = check_files(
        dataset.location, shards, (INPUTS_FILE, SHARDS_FILE), findings, quick=quick, on_progress=on_progress
    )
    readable = [shard for shard in shards if shard.path in sound and _check_footer(dataset, shard, findings)]
    _check_counts(dataset, findings)
    if quick or len(readable) < len(shards):
        return findings
    for part in ("images", "captions"):
        _check_vectors(dataset, part, findings)
    _check_rows(dataset, findings)
    _note_repeated_ids(dataset, findings)
    return findings


def _check_footer(dataset: Embeddings, shard: Shard, findings: Findings) -> bool:
    location = dataset.location / shard.path
    try:
        with location.filesystem.open_input_file(location.path) as stream:
            rows = pq.ParquetFile(stream).metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        findings.fault(f"{shard.path} is not readable Parquet: {str(error).splitlines()[0]}")
        return False
    if rows != shard.rows:
        findings.fault(f"{shard.path} holds {rows} rows and should hold {shard.rows}")
        return False
    return True


def _check_counts(dataset: Embeddings, findings: Findings) -> None:
    counts = dataset.manifest.counts
    rejected = counts.rejected_images + counts.rejected_captions
    for part, expected in (("images", counts.images), ("captions", counts.captions), ("rejected", rejected)):
        found = dataset.count(part)
        if found != expected:
            findings.fault(f"{part}: the files hold {found} rows, the manifest counts {expected}")
    if counts.images + counts.rejected_images + counts.without_image_column != counts.rows:
        findings.fault(
            "the manifest's images, rejected images and rows without an image column do not add up to its rows"
        )
    if sum(counts.rejected_by_reason.values()) != rejected:
        findings.fault("the manifest's rejects by reason do not add up to its rejects")
    findings.count("images", dataset.count("images"))
    findings.count("captions", dataset.count("captions"))
    findings.count("rejected", dataset.count("rejected"))


def _check_vectors(dataset: Embeddings, part: str, findings: Findings) -> None:
    for shard in dataset.shards_of(part):
        for batch in dataset.open_shard(shard).iter_batches(16_384, columns=["row", "embedding"]):
            column = batch.column("embedding")
            if column.null_count:
                findings.fault(f"{shard.path}: {column.null_count} embeddings are null")
                continue
            vectors = vectors_of(column).astype(np.float32)
            length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
            for index in np.flatnonzero(~(np.abs(length - 1) <= UNIT_TOLERANCE)).tolist():
                row = batch.column("row")[index].as_py()
                findings.fault(f"{shard.path}: the vector of row {row} is not of unit length ({length[index]})")
            findings.count("vectors", len(vectors))


def _check_rows(dataset: Embeddings, findings: Findings) -> None:
    """Walks the parts file by file: all parts are in order of ``row``, so one source file's rows are together."""
    images = _by_file(dataset, "images", None, findings)
    rejected_images = _by_file(dataset, "rejected", "image", findings)
    captions = _by_file(dataset, "captions", None, findings)
    rejected_captions = _by_file(dataset, "rejected", "caption", findings)
    streams = [_Stream(stream) for stream in (images, rejected_images, captions, rejected_captions)]
    rows_seen = 0
    for file in storage.read_table(dataset.location / INPUTS_FILE).to_pylist():
        ordinal, path = file["ordinal"], file["path"]
        with_image, without_image, with_text, without_text = (stream.take(ordinal) for stream in streams)
        rows_seen += file["rows"]
        _check_images(path, file["rows"], with_image[0], without_image[0], findings)
        _check_captions(path, file["rows"], file["captions"], with_text, without_text, findings)
    for stream in streams:
        for ordinal in stream.rest():
            findings.fault(f"rows of a source file with ordinal {ordinal} are here, but {INPUTS_FILE} does not list it")
    if rows_seen != dataset.manifest.counts.rows:
        findings.fault(f"{INPUTS_FILE} counts {rows_seen} rows, the manifest {dataset.manifest.counts.rows}")
    findings.count("rows", rows_seen)


_Keys = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Row numbers within a file, and caption indices (0 for images)."""


class _Stream:
    """Keys by source file, taken in order of the files' ordinals."""

    def __init__(self, groups: Iterator[tuple[int, _Keys]]) -> None:
        self._groups = groups
        self._next = next(groups, None)

    def take(self, ordinal: int) -> _Keys:
        """The keys of this file, empty where it has none."""
        if self._next is None or self._next[0] != ordinal:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        keys = self._next[1]
        self._next = next(self._groups, None)
        return keys

    def rest(self) -> list[int]:
        """Ordinals that nobody took."""
        left = [] if self._next is None else [self._next[0]]
        return left + [ordinal for ordinal, _ in self._groups]


def _by_file(dataset: Embeddings, part: str, kind: str | None, findings: Findings) -> Iterator[tuple[int, _Keys]]:
    pieces = _pieces(dataset, part, kind, findings)
    for ordinal, group in groupby(pieces, key=lambda piece: piece[0]):
        keys = [piece[1] for piece in group]
        yield ordinal, (np.concatenate([key[0] for key in keys]), np.concatenate([key[1] for key in keys]))


def _pieces(dataset: Embeddings, part: str, kind: str | None, findings: Findings) -> Iterator[tuple[int, _Keys]]:
    columns = ["row"] if part == "images" else ["row", "caption_index"] + (["kind"] if kind else [])
    last = -1
    for shard in dataset.shards_of(part):
        for batch in dataset.open_shard(shard).iter_batches(65_536, columns=columns):
            rows = batch.column("row").to_numpy()
            if part == "images":
                index = np.zeros(len(rows), np.int64)
            else:
                index = batch.column("caption_index").fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
            if kind is not None:
                chosen = np.asarray(batch.column("kind").to_pylist(), dtype=object) == kind
                rows, index = rows[chosen], index[chosen]
            if len(rows) and (rows[0] < last or (np.diff(rows) < 0).any()):
                findings.fault(f"{shard.path} is not in order of row, or its rows belong elsewhere (a swapped file)")
            last = int(rows[-1]) if len(rows) else last
            ordinals = rows >> ORDINAL_SHIFT
            for ordinal in np.unique(ordinals).tolist():
                of_file = ordinals == ordinal
                yield ordinal, (rows[of_file] & _ROW_MASK, index[of_file])


def _check_images(
    path: str, rows: int, embedded: NDArray[np.int64], rejected: NDArray[np.int64], findings: Findings
) -> None:
    """All rows of the file once, or none: a file without an image column has neither images nor rejects."""
    both = np.concatenate([embedded, rejected])
    if not len(both):
        return
    if (both >= rows).any():
        findings.fault(f"{path}: row {int(both.max())} is here, but the file has {rows} rows")
        return
    times = np.bincount(both, minlength=rows)
    for row in np.flatnonzero(times == 0).tolist():
        findings.fault(f"{path}: row {row} is neither an image nor a reject: it is lost")
    for row in np.flatnonzero(times > 1).tolist():
        findings.fault(f"{path}: row {row} is here {times[row]} times")


def _check_captions(path: str, rows: int, expected: int, embedded: _Keys, rejected: _Keys, findings: Findings) -> None:
    row = np.concatenate([embedded[0], rejected[0]])
    index = np.concatenate([embedded[1], rejected[1]])
    if len(row) != expected:
        findings.fault(f"{path}: {len(row)} captions and caption rejects, but {expected} were read")
    if not len(row):
        return
    if (row >= rows).any():
        findings.fault(f"{path}: a caption of row {int(row.max())} is here, but the file has {rows} rows")
    order = np.lexsort((index, row))
    row, index = row[order], index[order]
    starts = np.concatenate([[True], np.diff(row) > 0])
    wanted = np.where(starts, 0, np.concatenate([[0], index[:-1] + 1]))
    for at in np.flatnonzero(index != wanted).tolist():
        what = "twice" if at and row[at] == row[at - 1] and index[at] == index[at - 1] else "out of sequence"
        findings.fault(f"{path}: caption {int(index[at])} of row {int(row[at])} is here {what}")


def _note_repeated_ids(dataset: Embeddings, findings: Findings) -> None:
    total = dataset.count("images")
    if total > _MOST_IDS:
        findings.notes.append(f"repeated ids were not looked for among {total} images")
        return
    hashes: Sequence[NDArray[np.int64]] = [
        np.fromiter((hash(text) for text in batch.column("id").to_pylist()), np.int64, batch.num_rows)
        for batch in dataset.batches("images", ["id"])
    ]
    if hashes:
        repeated = total - len(np.unique(np.concatenate(hashes)))
        if repeated:
            findings.notes.append(f"{repeated} images have an id that another has too (ids need not be unique)")
