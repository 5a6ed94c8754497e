"""What is known about vectors beside their numbers: a CSV or Parquet file, or a folder of Parquet, row by row."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.source.columns import choose_metadata_columns
from clipmill.source.csv_text import csv_header, csv_table
from clipmill.source.decoded_size import TooLarge, batches_of, open_parquet
from clipmill.source.importers.npy import files_of
from clipmill.source.names import CAPTION_NAMES, PARQUET_SUFFIXES
from clipmill.source.types import is_text_list
from clipmill.source.values import plain_array
from clipmill.storage import Location

_OPTION = "--metadata"
_MOST_BYTES, _MOST_RATIO = 192 << 20, 20
"""What a file may become in memory: more than both, and it is refused. Tables shrink five to ten times in Parquet."""


@dataclass(frozen=True)
class Metadata:
    """A described table in memory: captions and ids where there are such columns, and the columns that travel."""

    captions: pa.Array | None
    ids: pa.Array | None
    kept: pa.Table

    @property
    def lists(self) -> NDArray[np.int64] | None:
        """How many captions each row has, where they are lists; None where each row has one."""
        if self.captions is None or not is_text_list(self.captions.type):
            return None
        return np.asarray(pc.fill_null(pc.list_value_length(self.captions), 0).to_numpy(), np.int64)


def read_table(uri: str, caption_column: str | None) -> tuple[str, pa.Table]:
    """The whole table and its name for messages; several Parquet files follow each other in natural order."""
    files = files_of(uri, PARQUET_SUFFIXES, _OPTION)
    if files[0].name.lower().endswith((".csv", ".tsv", ".txt")):
        delimiter, names = csv_header(files[0])
        text = [name for name in names if name == caption_column or name.lower() in CAPTION_NAMES]
        return str(files[0]), csv_table(files[0], delimiter, names, text)
    tables = [_parquet(file) for file in files]
    try:
        return str(files[0]), pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise UserError(f"{_OPTION} {uri}: the files have different types: {str(error).splitlines()[0]}") from None


def describe_rows(
    table: pa.Table, name: str, *, caption_column: str | None, id_column: str | None, with_caption: bool
) -> Metadata:
    """The parts that the columns play. Raises UserError when several could be the caption."""
    columns = choose_metadata_columns(
        table.schema, name, caption_column=caption_column, id_column=id_column, with_caption=with_caption
    )
    kept = {field.name: _column(table, source).cast(field.type, safe=False) for source, field in columns.kept}
    return Metadata(
        captions=_column(table, columns.caption_column) if columns.caption_column else None,
        ids=_column(table, columns.id_column).cast(pa.string()) if columns.id_column else None,
        kept=pa.table(kept, schema=pa.schema([field for _, field in columns.kept])),
    )


def take(column: pa.Array | pa.Table, rows: NDArray[np.int64]) -> pa.Array | pa.Table:
    """These rows, null where the row is negative."""
    return column.take(pa.array(rows, mask=rows < 0))


def _parquet(file: Location) -> pa.Table:
    try:
        with storage.open_versioned(file) as opened:
            parquet = open_parquet(opened.stream)
            return pa.Table.from_batches(_whole(parquet, opened.size), parquet.schema_arrow)
    except TooLarge as error:
        raise UserError(f"{_OPTION} {file}: {error}") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{_OPTION} {file}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _whole(parquet: pq.ParquetFile, size: int) -> Iterator[pa.RecordBatch]:
    """All rows of a file of this size. Raises TooLarge where they take far more memory than the file has bytes."""
    limit = max(_MOST_BYTES, _MOST_RATIO * size)
    taken = 0
    for group in range(parquet.num_row_groups):
        for batch in batches_of(parquet, group, parquet.schema_arrow.names):
            taken += batch.nbytes
            if taken > limit:
                raise TooLarge(
                    f"its {size:,} bytes become more than {limit:,} once decoded, more than is read; leave out the columns "
                    "that repeat themselves so much"
                )
            yield batch


def _column(table: pa.Table, name: str) -> pa.Array:
    chunks = [plain_array(chunk) for chunk in table.column(name).chunks]
    return (
        pa.concat_arrays(chunks)
        if chunks
        else pa.array([], plain_array(pa.array([], table.schema.field(name).type)).type)
    )
