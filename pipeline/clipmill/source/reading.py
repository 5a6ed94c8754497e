"""Units of work read from source files: only the columns needed, each row group once, a bounded number of rows at a time."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.source.columns import Columns
from clipmill.source.decoded_size import (
    UNIT_BYTES,
    TooLarge,
    batches_of,
    lists_to_measure,
    open_parquet,
    refuse_large_lists,
)
from clipmill.source.formats import format_of
from clipmill.source.input_file import InputFile
from clipmill.source.lance_table import lance_batches, table_of
from clipmill.source.locating import locate
from clipmill.source.media import MEDIA, MediumName
from clipmill.source.units import Span, Unit
from clipmill.source.values import caption_values, id_values, image_values, kept_values, media_values
from clipmill.storage import Location

_BATCH_BYTES = 16 << 20
_MAX_BATCH_ROWS = 1024
KEPT_PREFIX = "kept:"
"""Before the names of kept columns in a unit, so that none can collide with the columns every unit has."""


def unit_schema(columns: Columns) -> pa.Schema:
    """What `read_units` yields.

    - ``row``: int64, and ``id``: string, from the source or ``<file name>:<row number>``.
    - ``image``: the encoded bytes, null without them; ``image_path``: where the bytes may be fetched instead.
    - ``has_image_column``: false in the rows of a file that has no image column, which lack nothing.
    - the same three of ``audio`` and ``video``, where the input has them.
    - ``captions``: null without any; the elements are as in the source, null and empty ones too. A null in a caption
      column of single strings is a list with one null.
    - the columns kept from the source: ``kept:`` and their name in the output.

    All text is valid UTF-8: bytes of the source that are not become U+FFFD, and a caption is embedded with it.
    """
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("image", pa.large_binary()),
            pa.field("image_path", pa.string()),
            pa.field("has_image_column", pa.bool_(), nullable=False),
            pa.field("captions", pa.list_(pa.string())),
            *(field for medium in columns.clips for field in _clip_fields(medium)),
            *(output.with_name(KEPT_PREFIX + output.name) for _, output in columns.kept),
        ]
    )


def _clip_fields(medium: MediumName) -> tuple[pa.Field, ...]:
    return (
        pa.field(medium, pa.large_binary()),
        pa.field(f"{medium}_path", pa.string()),
        pa.field(f"has_{medium}_column", pa.bool_(), nullable=False),
    )


def read_units(units: Sequence[Unit], inputs: Sequence[InputFile], columns: Columns) -> Iterator[pa.Table]:
    """One table a unit, in the order given; rows in the order of the spans. Columns as in `unit_schema`.

    Units that follow each other in one row group share one pass over it. Raises RunFailed, naming the file, when it is
    damaged or has changed since the inputs were listed.
    """
    schema = unit_schema(columns)
    by_ordinal = {file.ordinal: file for file in inputs}
    reader: _FileReader | None = None
    for unit in units:
        batches: list[pa.RecordBatch] = []
        size = 0
        for span in unit.spans:
            file = by_ordinal[span.ordinal]
            if reader is None or reader.file is not file:
                reader = _FileReader(file, _names_to_read(file, columns))
            for start, batch in reader.read(span):
                batches.append(_normalised(batch, file, start, columns, schema))
                size += batches[-1].nbytes
                if size > UNIT_BYTES:
                    raise reader.failure(f"{unit.rows} rows there have more than {UNIT_BYTES:,} bytes once decoded")
        yield pa.Table.from_batches(batches, schema)


def with_sources(raw: pa.Table, inputs: Sequence[InputFile]) -> pa.Table:
    """A unit with the column ``source``: the path of the file that each row is of."""
    paths = {file.ordinal: file.path for file in inputs}
    sources = [paths[row >> ORDINAL_SHIFT] for row in raw.column("row").to_pylist()]
    return raw.append_column("source", pa.array(sources, pa.string()))


def refuse_urls(inputs: Sequence[InputFile], columns: Columns) -> None:
    """Raises UserError when a column of files holds web addresses: looks at the first value of the first file."""
    for medium in MEDIA:
        column = columns.column_of(medium)
        if column is not None and columns.kind_of(medium) == "path":
            _refuse_urls_in(inputs, column)


def _refuse_urls_in(inputs: Sequence[InputFile], column: str) -> None:
    holder = next((file for file in inputs if file.rows and column in file.schema.names), None)
    if holder is None:
        return
    for _, batch in _FileReader(holder, [column]).read(Span(holder.ordinal, 0, min(holder.rows, 1000))):
        _, paths = image_values(batch.column(0))
        for value in paths.drop_null()[:1].to_pylist() if paths is not None else ():
            if value.lower().startswith(("http://", "https://")):
                raise UserError(
                    f"column {column!r} of {holder.path} holds web addresses ({value}), and clipmill does "
                    "not download: fetch the images with img2dataset (output_format=parquet) and embed what it writes"
                )


@dataclass
class _FileReader:
    """Spans of one file, read forwards: a span that begins where the last one ended goes on in the same pass."""

    file: InputFile
    names: Sequence[str]

    def __post_init__(self) -> None:
        self._batches: Iterator[tuple[int, pa.RecordBatch]] = iter(())
        self._position = -1
        self._rest: tuple[int, pa.RecordBatch] | None = None
        self._ends = list(accumulate(self.file.row_group_rows))

    def read(self, span: Span) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of its first row, batch) until the span is covered."""
        if (
            self._position < 0
            or span.start < self._position
            or self._group_of(span.start) > self._group_of(self._position)
        ):
            self._batches, self._rest = self._scan_from(span.start), None
        self._position = span.start
        while self._position < span.stop:
            start, batch = self._rest or self._next()
            end = min(start + batch.num_rows, span.stop)
            self._rest = (end, batch.slice(end - start)) if end < start + batch.num_rows else None
            if end > self._position:
                yield self._position, batch.slice(self._position - start, end - self._position)
                self._position = end

    def _next(self) -> tuple[int, pa.RecordBatch]:
        try:
            return next(self._batches)
        except StopIteration:
            raise self.failure("it has fewer rows than when the run began") from None
        except TooLarge as error:
            raise self.failure(str(error)) from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.failure(str(error).splitlines()[0].rstrip(".")) from None

    def failure(self, reason: str) -> RunFailed:
        """What to raise where the file cannot be read, for this reason."""
        return RunFailed(
            f"{self.file.path}: could not be read near row {max(self._position, 0)}: {reason}; "
            "replace the file or leave it out, and run the command again"
        )

    def _open(self, stream: pa.NativeFile) -> pq.ParquetFile:
        parquet = open_parquet(stream)
        lists = lists_to_measure(parquet, self.names)
        if not lists:
            return parquet
        return open_parquet(stream, read_dictionary=lists, metadata=parquet.metadata)

    def _group_of(self, row: int) -> int:
        """The row group that holds this row; the last one for the end of the file."""
        return min(bisect_right(self._ends, row), len(self._ends) - 1)

    def _scan_from(self, row: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches from the beginning of the row group that holds this row, to the end of the file."""
        first = bisect_right(self._ends, row)
        start = self._ends[first - 1] if first else 0
        if self.file.listed is not None:
            for batch in self.file.listed.select(self.names).slice(start - self.file.listed_from).to_batches():
                yield start, batch
                start += batch.num_rows
            return
        if table_of(self.file.path) is not None:
            for batch in lance_batches(self.file, start, self.names):
                yield start, batch
                start += batch.num_rows
            return
        place = locate(self.file.path)
        with storage.open_versioned(place) as opened:
            if opened.size != self.file.size:
                raise self.failure(f"its size changed from {self.file.size} to {opened.size} bytes")
            if opened.etag != self.file.etag:
                raise self.failure("it was replaced since the run began")
            if (kind := format_of(self.file.path)) is not None:
                for batch in kind.batches(opened.stream, self.file, first, self.names):
                    self._refuse_overwritten(place)
                    yield start, batch
                    start += batch.num_rows
                return
            parquet = self._open(opened.stream)
            for group in range(first, len(self.file.row_group_rows)):
                rows = self.file.row_group_rows[group]
                if not rows:
                    continue
                row_bytes = max(1, self.file.row_group_bytes[group] // rows)
                batch_rows = max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // row_bytes))
                for batch in batches_of(parquet, group, self.names, batch_rows):
                    self._refuse_overwritten(place)
                    refuse_large_lists(batch)
                    yield start, batch
                    start += batch.num_rows

    def _refuse_overwritten(self, place: Location) -> None:
        """Raises RunFailed where a local file is another by now: what is read of it may be of both. On S3 an open file stays
        the version that was opened."""
        if not place.is_local:
            return
        now = place.filesystem.get_file_info(place.path)
        if (now.size, str(now.mtime_ns)) != (self.file.size, self.file.etag):
            raise self.failure("it was overwritten while it was being read")


def _names_to_read(file: InputFile, columns: Columns) -> list[str]:
    roles = [columns.column_of(medium) for medium in MEDIA]
    wanted = [*roles, columns.caption_column, columns.id_column, *(name for name, _ in columns.kept)]
    present = set(file.schema.names)
    return list(dict.fromkeys(name for name in wanted if name is not None and name in present))


def _normalised(
    batch: pa.RecordBatch, file: InputFile, start: int, columns: Columns, schema: pa.Schema
) -> pa.RecordBatch:
    def source(name: str | None) -> pa.Array | None:
        return batch.column(name) if name is not None and name in batch.schema.names else None

    numbers = np.arange(start, start + batch.num_rows, dtype=np.int64)
    arrays = [
        pa.array((file.ordinal << ORDINAL_SHIFT) + numbers),
        id_values(source(columns.id_column), file, numbers),
        *media_values(source(columns.image_column), batch.num_rows),
        caption_values(source(columns.caption_column), batch.num_rows),
        *(
            array
            for medium in columns.clips
            for array in media_values(source(columns.column_of(medium)), batch.num_rows)
        ),
    ]
    for name, output in columns.kept:
        column = source(name)
        kept = (
            pa.nulls(batch.num_rows, output.type)
            if column is None
            else kept_values(column, name, output.type, file, start)
        )
        arrays.append(kept)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
