"""Many queries at once: vectors or texts from a file in, one Parquet file of results out, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import SEARCH_RESULTS
from clipmill.index.search.exact import TopK
from clipmill.index.search.query_file import Encode, QueryFile, query_vectors
from clipmill.index.search.search import Index
from clipmill.index.search.selection import Selection

BATCH_RESULTS = 1 << 20


@dataclass(frozen=True)
class QueryBatch:
    """Queries (q, d) float32 of unit length; ``first`` is the number of the first of them in its file."""

    first: int
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """The results of a number of queries, sorted by query and rank."""

    queries: int
    table: pa.Table


def search_batch(
    index: Index,
    queries: str,
    output: str,
    k: int,
    encode: Encode,
    selection: Selection | None = None,
    on_answered: Callable[[int], object] = lambda queries: None,
) -> int:
    """Searches every query of a file and writes ``query, rank, row, id, score``, sorted by query and rank.

    ``query`` counts from 0 in the order of the file; ``encode`` turns texts into vectors and is called only for texts;
    ``on_answered`` is given the number of queries just answered. Returns the number of queries. Raises UserError for a
    file that holds neither vectors nor texts.
    """
    k = min(k, index.n)
    batches = query_batches(queries, index.dimension, k, encode)
    return write_answers(output, (_answer(index, batch, k, selection) for batch in batches), on_answered)


def query_batches(queries: str, dimension: int, k: int, encode: Encode) -> Iterator[QueryBatch]:
    """The queries of a file in order, in batches of so few that ``k`` results of each are at most BATCH_RESULTS."""
    step = max(1, BATCH_RESULTS // k)
    done = 0
    for vectors in query_vectors(QueryFile(storage.resolve(queries)), dimension, encode):
        for start in range(0, len(vectors), step):
            yield QueryBatch(done + start, vectors[start : start + step])
        done += len(vectors)


def write_answers(output: str, answers: Iterable[Answer], on_answered: Callable[[int], object]) -> int:
    """Writes answers in their order, the whole file or none. Returns the number of queries."""
    done = 0
    with storage.atomic_writer(storage.resolve(output)) as stream, pq.ParquetWriter(stream, SEARCH_RESULTS) as writer:
        for answer in answers:
            writer.write_table(answer.table)
            done += answer.queries
            on_answered(answer.queries)
    return done


def results_table(first: int, found: TopK, rows: NDArray[np.int64], ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Results as they are written. ``found`` are scores and positions (q, k) of the queries from number ``first`` on;
    ``rows`` and ``ids`` belong to the positions that are not −1, in order."""
    scores, positions = found
    query, rank = np.nonzero(positions >= 0)
    columns = [query + first, (rank + 1).astype(np.int32), rows, ids, scores[positions >= 0]]
    return pa.table(columns, schema=SEARCH_RESULTS)


def _answer(index: Index, batch: QueryBatch, k: int, selection: Selection | None) -> Answer:
    scores, positions = index.search(batch.vectors, k, selection=selection)
    found = positions[positions >= 0]
    ids = index.table.fetch(found, ["id"]).column("id")
    return Answer(len(batch.vectors), results_table(batch.first, (scores, positions), index.rows_at(found), ids))
