"""Embeddings as rows of an Iceberg table. Files are written first, under names that follow from their content, and added by one
commit, whose snapshot says what it was written from: so a run that was interrupted has added nothing, and one that was done is
known."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.core.errors import RunFailed, UserError
from clipmill.datasets.manifests import vectors_of
from clipmill.datasets.shards import Shard
from clipmill.export.rows import SOURCE, Rows, Written, refuse_other

_EMBEDDING = "embedding"


@dataclass(frozen=True)
class IcebergTable:
    """A table of a catalog: ``catalog`` as pyiceberg's configuration names it, ``properties`` beside those that stand there."""

    catalog: str
    name: str
    properties: Mapping[str, str]


def commit_iceberg(
    rows: Rows, target: IcebergTable, *, overwrite: bool = False, on_read: Callable[[int], object] = lambda rows: None
) -> Written:
    """Adds all rows to the table, which is made where it is not there, by one commit; nothing where a snapshot of it has them.

    Iceberg has neither half floats nor lists of a fixed length: vectors are list<float>, twice the bytes. Raises OutputDiffers
    for a table that holds other rows, unless they are to be replaced; UserError where pyiceberg is missing, or the catalog or
    the table cannot be used; RunFailed where another commit came between.
    """
    if importlib.util.find_spec("pyiceberg") is None:
        raise UserError("an Iceberg table is written by the package pyiceberg: pip install 'clipmill[iceberg]'")
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.expressions import AlwaysTrue

    table = _table(rows, target)
    current = table.current_snapshot()
    source = _source_of(current)
    if source == rows.key:
        return Written(_count(current), str(current.snapshot_id), already=True)
    if current is not None and _count(current) and not overwrite:
        refuse_other(f"--table {target.name}", source, rows)
    files = [_write(rows, shard, number, table, on_read) for number, shard in enumerate(rows.shards)]
    try:
        with table.transaction() as transaction:
            if current is not None and _count(current):
                transaction.delete(AlwaysTrue())
            transaction.add_files(files, snapshot_properties={SOURCE: rows.key})
    except CommitFailedException as error:
        raise RunFailed(
            f"--table {target.name}: another commit came between ({str(error)[:200]}); nothing was added: run the same command "
            "again"
        ) from None
    snapshot = table.refresh().current_snapshot()
    return Written(_count(snapshot), str(snapshot.snapshot_id), already=False)


def _table(rows: Rows, target: IcebergTable) -> Any:
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchTableError

    namespace, _, name = target.name.rpartition(".")
    if not namespace.strip(".") or not name:
        raise UserError(f"--table {target.name}: name the namespace too, such as photos.images")
    try:
        catalog = load_catalog(target.catalog, **target.properties)
    except Exception as error:  # whatever a catalog's library raises
        raise UserError(
            f"--catalog {target.catalog} cannot be used ({_first_line(error)}); name it in ~/.pyiceberg.yaml, or give "
            "--property type=sql --property uri=sqlite:///catalog.db --property warehouse=file:///warehouse"
        ) from None
    schema = _schema(rows)
    try:
        table = catalog.load_table(target.name)
    except NoSuchTableError:
        try:
            catalog.create_namespace_if_not_exists(namespace)
            return catalog.create_table(target.name, schema)
        except Exception as error:  # as above
            raise UserError(f"--table {target.name} cannot be made ({_first_line(error)})") from None
    names = {field.name for field in table.schema().fields}
    if names != set(schema.names):
        there, wanted = (", ".join(sorted(one)) for one in (names, schema.names))
        raise UserError(
            f"--table {target.name} has the columns {there}, and the embeddings {wanted}: rows of other columns cannot be "
            "replaced; give another table"
        )
    return table


def _schema(rows: Rows) -> pa.Schema:
    """That of the part, with vectors as Iceberg can have them."""
    element = pa.field("element", pa.float32(), nullable=False)
    return pa.schema(
        [
            pa.field(_EMBEDDING, pa.list_(element), nullable=False)
            if field.name == _EMBEDDING
            else field.with_type(_type_of(field))
            for field in rows.schema
        ]
    )


def _type_of(field: pa.Field) -> pa.DataType:
    """The type of Iceberg that holds all values of a column. Raises UserError where there is none."""
    kind = field.type
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        raise UserError(
            f"column {field.name} is {kind}, which Iceberg does not have; embed without it (--keep-columns)"
        )
    return kind


def _write(rows: Rows, shard: Shard, number: int, table: Any, on_read: Callable[[int], object]) -> str:
    """One file of the part as a file of the table; where it lies."""
    schema = _schema(rows)
    path = f"{table.location().rstrip('/')}/data/clipmill-{rows.dataset.manifest_sha256[:16]}-{rows.part}-{number:05d}.parquet"
    with (
        table.io.new_output(path).create(overwrite=True) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for batch in rows.batches(shard, on_read):
            writer.write_batch(_converted(batch, schema))
    return path


def _converted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    vectors = vectors_of(batch.column(_EMBEDDING)).astype(np.float32)
    starts = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
    lists = pa.ListArray.from_arrays(starts, pa.array(vectors.reshape(-1)), type=schema.field(_EMBEDDING).type)
    columns = [lists if field.name == _EMBEDDING else _cast(batch.column(field.name), field) for field in schema]
    return pa.record_batch(columns, schema=schema)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    """Raises UserError for a value that the type in Iceberg cannot hold."""
    if column.type == field.type:
        return column
    try:
        whole = pa.types.is_timestamp(column.type) or pa.types.is_time(column.type)  # what is under a microsecond goes
        return column.cast(field.type, safe=not whole)
    except pa.ArrowInvalid as error:
        raise UserError(f"column {field.name}: {_first_line(error)}; embed without it (--keep-columns)") from None


def _source_of(snapshot: Any) -> str | None:
    return None if snapshot is None else snapshot.summary.additional_properties.get(SOURCE)


def _count(snapshot: Any) -> int:
    return 0 if snapshot is None else int(snapshot.summary.additional_properties.get("total-records", 0))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
