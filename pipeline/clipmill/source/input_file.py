"""One source file: what is known of it before its rows are read."""

from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class InputFile:
    """One source file. ``path`` is the URI the user knows it by, the same on every run and every machine.

    ``etag`` is the object's ETag on S3 and the modification time in nanoseconds on a local disk.
    ``row_group_bytes`` are sizes before compression.
    """

    ordinal: int
    path: str
    size: int
    etag: str
    rows: int
    row_group_rows: tuple[int, ...]
    row_group_bytes: tuple[int, ...]
    schema: pa.Schema = field(repr=False)
    modified: int = 0
    """When the listing says that it was last changed, in nanoseconds."""
    row_group_starts: tuple[int, ...] = ()
    """Of a file that is no Parquet (`clipmill.source.formats`): the offset at which reading of each row group begins."""
    listed: pa.Table | None = field(default=None, repr=False, compare=False)
    """The rows from ``listed_from`` on, of a file that is read from memory (`clipmill.source.listed`)."""
    listed_from: int = 0
    listing: pa.Table | None = field(default=None, repr=False, compare=False)
    """Of a listed folder: path, size and version of each picture."""
