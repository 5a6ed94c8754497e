"""What one Parquet part of an embeddings dataset holds: sound vectors, rows in order, and the keys that account for them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill.core.schemas import FRAME, Reason
from clipmill.datasets.manifests import vectors_of
from clipmill.datasets.shards import Shard
from clipmill.storage import Location
from clipmill.verification.fetch import fetched
from clipmill.verification.findings import Findings
from clipmill.verification.ids import hashes_of
from clipmill.verification.rows import KINDS, rejected
from clipmill.verification.tables import check_footer, is_compressed, open_buffered
from clipmill.verification.vectors import check_unit_length

_BATCH_ROWS = 2048
_COLUMNS = {
    "images": ["row", "id", "embedding"],
    "audio": ["row", "embedding"],
    "videos": ["row", "embedding"],
    "captions": ["row", "caption_index", "embedding"],
    "rejected": ["row", "kind", "caption_index", "reason"],
}


@dataclass
class Contents:
    """One file, looked through. ``keys`` are by stream (see `clipmill.verification.rows`): rows, and the index of a
    caption or the number of a picture of a video in its row."""

    shard: Shard
    findings: Findings
    sound: bool = False
    compressed: bool = False
    keys: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    id_hashes: list[NDArray[np.uint64]] = field(default_factory=list)


def read_contents(
    dataset: Location,
    shard: Shard,
    schema: pa.Schema,
    scratch: Path,
    findings: Findings,
    advance: Callable[[int], None],
) -> Contents:
    """Hashes a file and looks through it. It is ``sound`` when it is as listed and its rows can be accounted for."""
    contents = Contents(shard, findings)
    with fetched(dataset, shard, scratch, findings, advance) as path:
        if path is None:
            return contents
        try:
            with open_buffered(path) as parquet:
                if not check_footer(parquet, shard, schema, findings):
                    return contents
                contents.compressed = is_compressed(parquet.metadata)
                _look_through(parquet, contents)
        except (pa.ArrowException, OSError) as error:
            findings.fault(f"{shard.name} is not readable Parquet: {str(error).splitlines()[0]}")
    return contents


def _look_through(parquet: pq.ParquetFile, contents: Contents) -> None:
    shard, findings = contents.shard, contents.findings
    read: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]] = []
    columns = [*_COLUMNS[shard.part], *({FRAME} & set(parquet.schema_arrow.names) if shard.part == "videos" else ())]
    for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
        rows = batch.column("row").to_numpy()
        index = np.zeros(len(rows), np.int64)
        if FRAME in columns:
            index = batch.column(FRAME).to_numpy().astype(np.int64)
        streams = np.full(len(rows), shard.part)
        if "caption_index" in batch.schema.names:
            index = pc.fill_null(batch.column("caption_index"), -1).to_numpy().astype(np.int64)
        if shard.part == "rejected":
            streams = _check_rejects(batch, rows, index, contents)
        else:
            check_unit_length(vectors_of(batch.column("embedding")), rows, shard.name, findings)
        if shard.part == "images":
            contents.id_hashes.append(hashes_of(batch.column("id")))
        read.append((rows, index, streams))
    contents.sound = True
    if not read:
        return
    rows, index, streams = (np.concatenate(parts) for parts in zip(*read, strict=True))
    for at in np.flatnonzero(np.diff(rows) < 0).tolist():
        findings.fault(f"{shard.name} is not in order: row {rows[at + 1]} comes after row {rows[at]}")
        contents.sound = False
    for name in np.unique(streams).tolist():
        contents.keys[name] = rows[streams == name], index[streams == name]


def _check_rejects(
    batch: pa.RecordBatch, rows: NDArray[np.int64], index: NDArray[np.int64], contents: Contents
) -> NDArray[np.str_]:
    """The stream that each reject belongs to."""
    path, findings = contents.shard.name, contents.findings
    kinds = batch.column("kind").to_pylist()
    for row in sorted({row for row, kind in zip(rows.tolist(), kinds, strict=True) if kind not in KINDS}):
        findings.fault(f"{path}: the reject of row {row} is neither of an image nor of a caption, a sound or a video")
    is_caption = np.array([kind == "caption" for kind in kinds], np.bool_)
    for at in np.flatnonzero(is_caption == (index < 0)).tolist():
        findings.fault(f"{path}: the reject of row {rows[at]} does not say rightly which caption it is")
    known = {reason.value for reason in Reason}
    for counted in pc.value_counts(batch.column("reason")).to_pylist():
        contents.reasons[counted["values"]] += counted["counts"]
        if counted["values"] not in known:
            findings.fault(f"{path} has rejects of a reason {counted['values']!r} that there is not")
    return np.array([rejected(KINDS.get(kind, "captions")) for kind in kinds], np.str_)
