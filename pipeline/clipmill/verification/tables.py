"""What the footer of a Parquet part tells: its rows, which of them, and columns of the right types."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.core.schemas import REJECTED, audio_schema, captions_schema, images_schema, videos_schema
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.shards import Shard
from clipmill.storage import Location
from clipmill.verification.findings import Findings

Result = TypeVar("Result")

_BUFFER_BYTES = 1 << 20


def part_schema(dataset: Embeddings, part: str, like: pa.Schema | None) -> pa.Schema:
    """The columns that files of this part must have. ``like``, one of them, tells the types of those kept from the source, and
    whether captions of vectors made elsewhere may be null."""
    manifest = dataset.manifest
    if part == "captions":
        return captions_schema(manifest.dimension, unknown=manifest.imported and _may_be_null(like, "caption"))
    if part == "rejected":
        return REJECTED
    present = set(like.names) if like is not None else set()
    kept = [
        pa.field(name, like.field(name).type if like is not None and name in present else pa.null())
        for name in manifest.kept_columns
    ]
    if part == "audio":
        return audio_schema(manifest.dimension, kept)
    if part == "videos":
        return videos_schema(manifest.dimension, kept, frames=manifest.keeps_frames)
    asked = manifest.configuration.get("thumbnails", "thumbnail" in present)
    return images_schema(manifest.dimension, kept, thumbnails=asked not in (None, False), hashes=manifest.has_hashes)


def _may_be_null(schema: pa.Schema | None, name: str) -> bool:
    return schema is None or name not in schema.names or schema.field(name).nullable


def check_footer(parquet: pq.ParquetFile, shard: Shard, schema: pa.Schema, findings: Findings) -> bool:
    """Whether rows, their range and all columns are as they should be; a fault for each that is not."""
    before = len(findings.faults)
    metadata = parquet.metadata
    if metadata.num_rows != shard.rows:
        findings.fault(f"{shard.path} holds {metadata.num_rows} rows and should hold {shard.rows}")
    _check_columns(parquet.schema_arrow, shard, schema, findings)
    if "row" in parquet.schema_arrow.names and metadata.num_rows:
        found = _row_range(metadata)
        if found is None:
            findings.unchecked.append(f"which rows {shard.path} holds: its footer does not tell")
        elif found != (shard.first_row, shard.last_row):
            findings.fault(
                f"{shard.path} holds the rows {found[0]} to {found[1]} and should hold {shard.first_row} to "
                f"{shard.last_row}: it is another file under this name"
            )
    return len(findings.faults) == before


def _check_columns(found: pa.Schema, shard: Shard, wanted: pa.Schema, findings: Findings) -> None:
    for field in wanted:
        if found.names.count(field.name) != 1:
            findings.fault(f"{shard.path} lacks the column {field.name}")
            continue
        there = found.field(field.name)
        if there.type != field.type or there.nullable != field.nullable:
            findings.fault(f"{shard.path}: the column {field.name} is {_type(there)} and should be {_type(field)}")
    for name in found.names:
        if name not in wanted.names:
            findings.fault(f"{shard.path} has a column {name} that is not the dataset's")


def _type(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ', never null'}"


def _row_range(metadata: pq.FileMetaData) -> tuple[int, int] | None:
    """Lowest and highest ``row``, from the statistics of the row groups."""
    column = next((at for at in range(metadata.num_columns) if metadata.schema.column(at).path == "row"), None)
    if column is None:
        return None
    groups = (metadata.row_group(at) for at in range(metadata.num_row_groups))
    found = [group.column(column).statistics for group in groups if group.num_rows]
    if not found or any(one is None or not one.has_min_max for one in found):
        return None
    return min(one.min for one in found), max(one.max for one in found)


def is_compressed(metadata: pq.FileMetaData) -> bool:
    """Whether the embeddings are compressed, which makes them several times slower to read."""
    if not metadata.num_row_groups:
        return False
    group = metadata.row_group(0)
    columns = (group.column(at) for at in range(metadata.num_columns))
    return any(one.path_in_schema.startswith("embedding.") and one.compression != "UNCOMPRESSED" for one in columns)


def reading(
    path: str, findings: Findings, read: Callable[[], Result], other: Iterable[type[Exception]] = ()
) -> Result | None:
    """What ``read`` returns; None, with a fault, where the file cannot be read."""
    try:
        return read()
    except (pa.ArrowException, OSError, *other) as error:
        findings.fault(f"{path} is not readable: {str(error).splitlines()[0]}")
        return None


def open_parquet(location: Location) -> pq.ParquetFile:
    """A Parquet file wherever it lies, read by row group."""
    return pq.ParquetFile(location.filesystem.open_input_file(location.path))


def open_buffered(path: Path) -> pq.ParquetFile:
    """A local Parquet file, to be read from its beginning to its end: a megabyte at a time, or all of it stays in memory."""
    return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
