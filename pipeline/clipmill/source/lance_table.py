"""A Lance table as source files, read in place: a file is a fragment, and its rows are those that are not deleted.

Fragments are what a table grows by, so a row that stays keeps its number; a fragment in which rows were deleted, or that was
written anew, is another file.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from clipmill.core.errors import UserError
from clipmill.source.input_file import InputFile
from clipmill.storage import Location

SUFFIX = ".lance"
_FRAGMENT = "/fragment-"
"""Between the path of a table and the number of a fragment in it: such a file is on no disk."""
_GROUP_ROWS = 1024
_BATCH_ROWS = 64


def is_lance(place: Location, uri: str) -> bool:
    """Whether a URI names a Lance table, by its name."""
    return uri.rstrip("/").endswith(SUFFIX) and not place.filesystem.get_file_info(place.path).is_file


def table_of(path: str) -> str | None:
    """The table of a fragment's path; None of other source files."""
    table, found, number = path.rpartition(_FRAGMENT)
    return table if found and number.isdigit() and table.endswith(SUFFIX) else None


def lance_fragments(place: Location) -> list[InputFile]:
    """The fragments of a table in the order of their numbers, as source files numbered from 0.

    Raises UserError where the package is missing, the table is on S3, or there is no such table.
    """
    if not place.is_local:
        raise UserError(f"{place}: a Lance table is read from a local disk; copy it there, or write it to Parquet")
    table = _opened(place.path)
    files = []
    for ordinal, fragment in enumerate(sorted(table.get_fragments(), key=lambda one: one.fragment_id)):
        size, etag, rows = _version_of(fragment)
        groups = [min(_GROUP_ROWS, rows - start) for start in range(0, rows, _GROUP_ROWS)]
        files.append(
            InputFile(
                ordinal=ordinal,
                path=f"{place.path.rstrip('/')}{_FRAGMENT}{fragment.fragment_id}",
                size=size,
                etag=etag,
                rows=rows,
                row_group_rows=tuple(groups),
                row_group_bytes=tuple(max(1, size * group // max(1, rows)) for group in groups),
                schema=table.schema.remove_metadata(),
            )
        )
    return files


def lance_batches(file: InputFile, start: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a fragment from ``start`` on, without those that are deleted.

    Raises ValueError where the fragment is another by now, or is gone.
    """
    table, _, number = file.path.rpartition(_FRAGMENT)
    fragment = _opened(table).get_fragment(int(number))
    if fragment is None or _version_of(fragment)[1] != file.etag:
        raise ValueError("it was changed since the run began")
    scanner = fragment.scanner(columns=list(names), offset=start, limit=file.rows - start, batch_size=_BATCH_ROWS)
    yield from scanner.to_batches()


def _version_of(fragment: Any) -> tuple[int, str, int]:
    """Bytes, version and rows of a fragment: its files never change, rows are deleted by another file beside them."""
    told = fragment.metadata.to_json()
    sizes = [file.get("file_size_bytes") or 0 for file in told["files"]]
    parts = [*(file["path"] for file in told["files"]), str(told["deletion_file"])]
    return sum(sizes), hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32], int(fragment.count_rows())


def _opened(path: str) -> Any:
    if importlib.util.find_spec("lance") is None:
        raise UserError(f"{path} is a Lance table, which needs the package pylance: pip install 'clipmill[lance]'")
    import lance

    try:
        return _of_version(path, lance.dataset(path).version)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path}: there is no Lance table that can be opened ({str(error).splitlines()[0][:200]})"
        ) from None


@lru_cache(maxsize=4)
def _of_version(path: str, version: int) -> Any:
    """Opened once in a process, which reads many units of it."""
    import lance

    return lance.dataset(path, version=version)
