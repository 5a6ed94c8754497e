"""What is known of a source file before its rows are read, whatever its kind."""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Groups:
    """The row groups of a file: the number of rows of each, its bytes, and the offset in the file at which reading begins."""

    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    schema: pa.Schema
