"""How much memory rows of a Parquet file may take once they are decoded, as far as the footer tells.

Encoded sizes bound nothing: a dictionary holds a value once that stands in every row, and a compressed page of zeros is a
thousandth of what it becomes. 700 bytes on a disk can ask for gigabytes.
"""

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

VALUE_BYTES = 128 << 20
"""What one value may have, and the texts of one batch."""
BATCH_BYTES = 32 << 20
"""What a batch of several rows may become in the worst case: it is there twice while it is brought to its types."""
UNIT_BYTES = 384 << 20
"""What a unit of rows may become; planned are at most 96 MiB, by the footers."""
_BUFFER_BYTES = 4 << 20
_MOST_ROWS = 1024
_MOST_EXPANDED, _RATIO = 512 << 20, 10
"""Pictures hardly compress, and texts five times: what expands by more than both is not read."""


class TooLarge(Exception):
    """Rows that would not fit into memory: what they are, in words."""


def open_parquet(stream: pa.NativeFile, **options: object) -> pq.ParquetFile:
    """Without a buffer a whole column of a row group is fetched at once, however large."""
    return pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False, **options)


def batches_of(
    parquet: pq.ParquetFile, group: int, names: Collection[str], most: int = _MOST_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows of a row group in order, so many at a time that they fit into memory; columns as in ``names``. Raises TooLarge
    where not even one row does."""
    rows = rows_at_a_time(parquet.metadata.row_group(group), names, most)
    yield from parquet.iter_batches(rows, [group], list(names), use_threads=False)


def rows_at_a_time(group: pq.RowGroupMetaData, names: Collection[str], most: int) -> int:
    """So many rows of this row group stay below `BATCH_BYTES`, whichever values of their dictionaries they hold; at most
    ``most``, at least one. Raises TooLarge for a column whose values are larger than can be read."""
    worst = 0
    for column in _of_bytes(group, names):
        expanded = column.total_uncompressed_size - column.total_compressed_size
        if expanded > _MOST_EXPANDED and column.total_uncompressed_size > _RATIO * column.total_compressed_size:
            raise TooLarge(_told(column, column.total_uncompressed_size, "write it again in smaller row groups"))
        if column.total_uncompressed_size > VALUE_BYTES * column.num_values:
            raise TooLarge(_told(column, column.total_uncompressed_size // column.num_values, "leave such a value out"))
        worst += _dictionary_bytes(column)
    return max(1, min(most, BATCH_BYTES // max(worst, 1)))


def lists_to_measure(parquet: pq.ParquetFile, names: Collection[str]) -> list[str]:
    """Paths of columns of lists that repeat values of a dictionary so often that one row could hold too much: these are
    read as dictionaries, and measured by `refuse_large_lists` before they are decoded."""
    repeated = {
        column.path
        for column in (parquet.schema.column(at) for at in range(len(parquet.schema)))
        if column.max_repetition_level
    }
    groups = (parquet.metadata.row_group(at) for at in range(parquet.num_row_groups))
    found = {
        column.path_in_schema
        for group in groups
        for column in _of_bytes(group, names)
        if column.path_in_schema in repeated and _dictionary_bytes(column) * column.num_values > VALUE_BYTES
    }
    return sorted(found)


def refuse_large_lists(batch: pa.RecordBatch) -> None:
    """Raises TooLarge where lists of dictionary values become more than `VALUE_BYTES`."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = column.type
        if not (pt.is_list(kind) or pt.is_large_list(kind)) or not pt.is_dictionary(kind.value_type):
            continue
        values = column.flatten()
        sizes = pc.binary_length(values.dictionary).take(values.indices)
        size = pc.sum(sizes.cast(pa.int64())).as_py() or 0
        if size > VALUE_BYTES:
            raise TooLarge(f"the lists of column {name!r} have {size:,} bytes in {batch.num_rows} rows")


def _of_bytes(group: pq.RowGroupMetaData, names: Collection[str]) -> Iterator[pq.ColumnChunkMetaData]:
    """The columns of texts and bytes among those named, and inside of them."""
    for at in range(group.num_columns):
        column = group.column(at)
        if column.path_in_schema.split(".")[0] in names and column.physical_type == "BYTE_ARRAY" and column.num_values:
            yield column


def _dictionary_bytes(column: pq.ColumnChunkMetaData) -> int:
    """What one value of the column's dictionary may have at most: all of it. 0 without one.

    Its page is as long as the offsets say, and expands by no more than the whole column does.
    """
    start = column.dictionary_page_offset
    if not column.has_dictionary_page or start is None:
        return 0
    page = max(0, column.data_page_offset - start)
    expanded = max(0, column.total_uncompressed_size - column.total_compressed_size)
    return int(min(page + expanded, column.total_uncompressed_size))


def _told(column: pq.ColumnChunkMetaData, size: int, remedy: str) -> str:
    return f"column {column.path_in_schema!r} has {size:,} bytes there, more than is read; {remedy}"
