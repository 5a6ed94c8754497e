"""Embeddings as a Lance dataset. Lance commits a write as one version, with what it was written from in the schema of that
version: so a write that was interrupted has left no version, and one that was done is known."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.export.rows import SOURCE, Rows, Written, refuse_other
from clipmill.storage import Location
from clipmill.storage.s3.settings import S3Settings


def write_lance(
    rows: Rows, output: str, *, overwrite: bool = False, on_read: Callable[[int], object] = lambda rows: None
) -> Written:
    """Writes all rows as one version of the dataset at ``output``; nothing where its newest version has them.

    Columns are as they are, vectors fixed_size_list<float16>. Memory is that of a few batches. Raises OutputDiffers for a
    dataset of other rows, unless it is to be overwritten by a new version; UserError where pylance is missing.
    """
    if importlib.util.find_spec("lance") is None:
        raise UserError("a Lance dataset is written by the package pylance: pip install 'clipmill[lance]'")
    import lance

    place = storage.resolve_output(output)
    uri, options = _address(place)
    found = _opened(uri, options)
    if found is not None:
        source = (found.schema.metadata or {}).get(SOURCE.encode(), b"").decode() or None
        if source == rows.key and found.count_rows() == rows.count:  # others may have added or deleted rows since
            return Written(rows.count, str(found.version), already=True)
        if not overwrite:
            refuse_other(f"--output {place}", source, rows)
    elif not all(_is_of_lance(info.path, place) for info in storage.list_files(place)):
        raise UserError(
            f"--output {place} holds files that are no Lance dataset; give a new folder, such as photos.lance"
        )

    def batches() -> Iterator[pa.RecordBatch]:
        for shard in rows.shards:
            yield from rows.batches(shard, on_read)

    schema = rows.schema.with_metadata({SOURCE: rows.key})
    reader = pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches()))
    mode = "create" if found is None else "overwrite"
    written = lance.write_dataset(reader, uri, mode=mode, storage_options=options or None)
    return Written(written.count_rows(), str(written.version), already=False)


def _is_of_lance(path: str, place: Location) -> bool:
    """Whether a file may be what an interrupted write has left."""
    return path.removeprefix(place.path).lstrip("/").startswith(("data/", "_transactions/", "_versions/"))


def _address(place: Location) -> tuple[str, dict[str, str]]:
    """As Lance names a place, and what its own client of S3 needs to know besides the environment."""
    if place.is_local:
        return place.path, {}
    endpoint = S3Settings.from_environment().endpoint
    plain = {"allow_http": "true"} if endpoint and endpoint.startswith("http://") else {}
    return place.uri, {"aws_endpoint": endpoint, **plain} if endpoint else {}


def _opened(uri: str, options: dict[str, str]) -> Any:
    import lance

    try:
        return lance.dataset(uri, storage_options=options or None)
    except (ValueError, OSError, FileNotFoundError) as error:
        if "not found" in str(error).lower():
            return None
        raise UserError(f"--output {uri} cannot be opened as a Lance dataset: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """What Lance says, without the place in its source."""
    return str(error).splitlines()[0].split(", /")[0][:200]
