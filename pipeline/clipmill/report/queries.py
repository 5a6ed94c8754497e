"""``report.queries.parquet``: the outcome of each query, by source file and row, so that two reports can be paired.

A dataset with more queries than are kept is sampled by a hash of source file and row number: all captions of an image
are in or out together, and two reports over the same files keep the same ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.row_hash import ROW_NUMBER, hash_path, hash_rows, paths_of_sources
from clipmill.evaluation.outcomes import HITS_AT, PART_OF, Outcomes
from clipmill.report.document import KeptQueries, QueriesPart
from clipmill.storage import Location

QUERIES_FILE = "report.queries.parquet"
QUERIES_KEPT = 1_000_000
"""Most queries of a task that are kept."""
TEXTS_KEPT = 20_000
TEXT_LENGTH = 200
_HASHES = 1 << 32
_GROUP_ROWS = 65_536

QUERIES = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("row_number", pa.int64(), nullable=False),
        pa.field("caption_index", pa.int32()),
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("label", pa.string()),
        pa.field("rank", pa.float64()),
        pa.field("reciprocal_rank", pa.float64()),
        *(pa.field(f"hit_{k}", pa.float64()) for k in HITS_AT),
        pa.field("weight", pa.float64()),
    ]
)
"""One row per query and task. ``task`` is t2i, i2t or zero-shot. ``path`` and ``row_number`` are the source file and the row
in it, ``path`` null where the dataset does not list its files; ``caption_index`` is null where an image is the query.
``text`` is the beginning of the caption, for some of them; ``label`` the right class. ``rank`` is the expected place of
the first positive, ``reciprocal_rank`` the expected 1 / place (null in files written before it was measured), and ``hit_K``
whether one is among the first K: a probability where scores tie. ``weight`` is how many queries of the dataset this one stands
for, where queries were drawn at several rates; null where all stand for equally many."""
_ADDED = ("reciprocal_rank", "weight")
"""Columns that files of older releases lack."""


@dataclass(frozen=True)
class _Sources:
    """The source files: ``paths`` by ordinal, None for one that is not listed, and a hash of each."""

    paths: list[str | None]
    hashes: NDArray[np.uint64]


def write_queries(
    place: Location, embeddings: Embeddings, outcomes: Sequence[Outcomes], seed: int = 0
) -> QueriesPart | None:
    """Writes the file at ``place`` and says what is in it; None, and no file, where nothing was asked. ``seed`` is what queries
    were drawn with, where not all were asked."""
    if not outcomes:
        return None
    tasks: dict[str, KeptQueries] = {}
    with (
        storage.atomic_writer(place) as stream,
        pq.ParquetWriter(
            stream,
            QUERIES,
            compression="zstd",
            use_dictionary=["task", "path", "label", *(f"hit_{k}" for k in HITS_AT)],
            column_encoding={"row_number": "DELTA_BINARY_PACKED"},
        ) as writer,
    ):
        for outcome in outcomes:
            tasks[outcome.task] = _write_task(writer, embeddings, outcome, seed)
    return QueriesPart(file=QUERIES_FILE, sha256=stream.written.sha256, tasks=tasks)


def read_queries(place: Location) -> pa.Table:
    """The rows of such a file. Raises ValueError for one with other columns, or that is no Parquet."""
    table = pq.read_table(pa.BufferReader(storage.read_bytes(place)))
    for name in _ADDED:
        if name not in table.schema.names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    if set(table.schema.names) == set(QUERIES.names):
        table = table.select(QUERIES.names)
    if table.schema.names != QUERIES.names:
        raise ValueError(f"the columns are {', '.join(table.schema.names)}")
    return table.cast(QUERIES)


def _write_task(writer: pq.ParquetWriter, embeddings: Embeddings, outcome: Outcomes, seed: int) -> KeptQueries:
    part = PART_OF[outcome.task]
    order = np.argsort(outcome.positions, kind="stable")
    positions = outcome.positions[order]
    rows = _rows_of(embeddings, part)[positions]
    sources = _sources(embeddings, int(rows.max()) >> ORDINAL_SHIFT)
    hashes = hash_rows(sources.hashes[rows >> ORDINAL_SHIFT], rows & ROW_NUMBER)
    below = _bound(hashes, QUERIES_KEPT)
    chosen = np.flatnonzero(hashes < below)
    texts = _bound(hashes, TEXTS_KEPT)
    kept = 0
    for table in _grouped(
        _tables(embeddings, sources, outcome, positions[chosen], order[chosen], hashes[chosen], texts)
    ):
        writer.write_table(table)
        kept += len(table)
    drawn = {} if outcome.of is None else {"of": outcome.of, "seed": seed}
    return KeptQueries(asked=len(outcome), kept=kept, hash_below=below, **drawn)


def _bound(hashes: NDArray[np.uint32], most: int) -> int:
    """The hash below which at most so many lie; 2³² where all may stay."""
    return _HASHES if len(hashes) <= most else int(np.partition(hashes, most)[most])


def _rows_of(embeddings: Embeddings, part: str) -> NDArray[np.int64]:
    rows = np.empty(embeddings.count(part), np.int64)
    start = 0
    for batch in embeddings.batches(part, ["row"]):
        rows[start : start + batch.num_rows] = batch.column(0).to_numpy()
        start += batch.num_rows
    return rows


def _sources(embeddings: Embeddings, last: int) -> _Sources:
    paths = paths_of_sources(embeddings, last)
    return _Sources(paths, np.array([hash_path(path) for path in paths], np.uint64))


def _tables(
    embeddings: Embeddings,
    sources: _Sources,
    outcome: Outcomes,
    positions: NDArray[np.int64],
    at: NDArray[np.int64],
    hashes: NDArray[np.uint32],
    texts: int,
) -> Iterator[pa.Table]:
    """Rows of the file for the queries at ``positions``, which ascend; ``at`` are their places in ``outcome``."""
    of_captions = PART_OF[outcome.task] == "captions"
    columns = ["row", "id", *(["caption_index", "caption"] if of_captions else [])]
    paths = pa.array(sources.paths, pa.string())
    start = 0
    for batch in embeddings.batches(PART_OF[outcome.task], columns):
        first, last = np.searchsorted(positions, [start, start + batch.num_rows])
        here, values = positions[first:last] - start, at[first:last]
        start += batch.num_rows
        if not len(here):
            continue
        taken = batch.take(pa.array(here))
        rows = taken.column("row").to_numpy()
        nothing = pa.nulls(len(here))
        text = nothing
        if of_captions:
            shown = pa.array(hashes[first:last] < texts)
            text = pa.compute.if_else(
                shown, pa.compute.utf8_slice_codeunits(taken.column("caption"), 0, TEXT_LENGTH), None
            )
        found = {
            "task": pa.array([outcome.task] * len(here)),
            "path": paths.take(pa.array(rows >> ORDINAL_SHIFT)),
            "row_number": pa.array(rows & ROW_NUMBER),
            "caption_index": taken.column("caption_index") if of_captions else nothing,
            "id": taken.column("id"),
            "text": text,
            "label": nothing
            if outcome.truth is None
            else pa.array(outcome.classes, pa.string()).take(pa.array(outcome.truth[values])),
            **{
                name: nothing if found is None else pa.array(found[values])
                for name, found in (("rank", outcome.rank), ("reciprocal_rank", outcome.reciprocal_rank))
            },
            "weight": nothing if outcome.weights is None else pa.array(outcome.weights[values]),
            **{f"hit_{k}": pa.array(outcome.hits[k][values]) if k in outcome.hits else nothing for k in HITS_AT},
        }
        yield pa.table({field.name: found[field.name].cast(field.type) for field in QUERIES}, schema=QUERIES)


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of at least a row group, except the last."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
