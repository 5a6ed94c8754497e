"""Searches that are kept: what was asked, and never by whom."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import ClipmillError, UserError

SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("ms", "UTC")),
        ("kind", pa.string()),
        ("k", pa.int32()),
        ("text", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)
_MOST_ROWS = 20_000
"""A file of this many queries measures recall to a point; of more, each newer one takes a random older one's place."""
_WRITE_SECONDS = 30.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """One query; ``vector`` (d,) float32 is what was searched with."""

    time: datetime
    kind: str
    k: int
    text: str | None
    vector: NDArray[np.float32]


class QueryFile:
    """A Parquet file of queries of one dimension, written whole now and then, and at the end. What is in it stays."""

    def __init__(self, uri: str, dimension: int, seed: int = 0) -> None:
        """Raises UserError for a file that is there and holds something else."""
        self._place = storage.resolve(uri)
        self._dimension = dimension
        self._rows = _read(self._place)
        self._seen = len(self._rows)
        self._random = np.random.default_rng(seed)
        self._keeping, self._writing = threading.Lock(), threading.Lock()
        self._due = time.monotonic() + _WRITE_SECONDS
        self._changed = False

    def add(self, kind: str, k: int, text: str | None, vectors: NDArray[np.float32]) -> None:
        """Keeps queries (q, d) of one request; those of an index of another dimension are not kept."""
        if vectors.shape[1] != self._dimension:
            return
        now = datetime.now(timezone.utc)
        with self._keeping:
            for vector in vectors:
                self._keep(Kept(now, kind, k, text, vector.copy()))
            due = time.monotonic() > self._due
            if due:
                self._due = time.monotonic() + _WRITE_SECONDS
        if due:
            threading.Thread(target=self.write, name="clipmill-queries").start()

    def write(self) -> None:
        """Writes the file, whole or not at all. One that cannot be written is told of, and tried again later."""
        with self._writing:
            with self._keeping:
                rows, changed, self._changed = list(self._rows), self._changed, False
            if not changed:
                return
            try:
                with storage.atomic_writer(self._place) as stream:
                    pq.write_table(_table(rows, self._dimension), stream)
            except (ClipmillError, OSError) as error:
                self._changed = True
                _LOG.warning("--log-queries %s cannot be written: %s", self._place, error)

    def close(self) -> None:
        """Writes what was not written yet."""
        self.write()

    def _keep(self, row: Kept) -> None:
        self._seen += 1
        self._changed = True
        if len(self._rows) < _MOST_ROWS:
            self._rows.append(row)
            return
        chosen = int(self._random.integers(self._seen))
        if chosen < _MOST_ROWS:
            self._rows[chosen] = row


def open_query_log(uri: str | None, dimension: int) -> QueryFile | None:
    """Raises UserError as `QueryFile` does."""
    return None if uri is None else QueryFile(uri, dimension)


def _table(rows: Sequence[Kept], dimension: int) -> pa.Table:
    flat = np.concatenate([row.vector for row in rows]) if rows else np.empty(0, np.float32)
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * dimension)
    columns = [
        [row.time for row in rows],
        [row.kind for row in rows],
        [row.k for row in rows],
        [row.text for row in rows],
        pa.ListArray.from_arrays(offsets, pa.array(flat)),
    ]
    return pa.table(
        [pa.array(one, SCHEMA.field(at).type) if isinstance(one, list) else one for at, one in enumerate(columns)],
        schema=SCHEMA,
    )


def _read(place: storage.Location) -> list[Kept]:
    if not storage.exists(place):
        return []
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            table = pq.read_table(stream)
    except (OSError, pa.ArrowInvalid):
        raise UserError(f"--log-queries {place} is there and is no Parquet file; give another name") from None
    if table.schema.names != SCHEMA.names:
        raise UserError(f"--log-queries {place} is there and holds other columns; give another name")
    return [
        Kept(row["time"], row["kind"], row["k"], row["text"], np.array(row["embedding"], np.float32))
        for row in table.to_pylist()
    ]
