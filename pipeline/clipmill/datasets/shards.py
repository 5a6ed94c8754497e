"""The files of a dataset: what ``shards.parquet`` says of each, and where it lies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Name, RelativePath, Sha256
from clipmill.core.schemas import SHARDS
from clipmill.storage import Location

SHARDS_FILE = "shards.parquet"


@dataclass(frozen=True)
class Shard:
    """One file of a dataset; ``path`` is relative to the dataset, or to the same dataset of another ``version`` beside it."""

    part: str
    path: RelativePath
    rows: int
    bytes: int
    sha256: Sha256
    first_row: int | None
    last_row: int | None
    version: Name | None = None

    @property
    def name(self) -> str:
        """What tells it from every other file of the dataset."""
        return self.path if self.version is None else f"{self.version}/{self.path}"

    def at(self, dataset: Location) -> Location:
        """Where it lies, of a dataset that is published or staged."""
        return (dataset if self.version is None else dataset_of(self.version, dataset)) / self.path


def dataset_of(version: str, dataset: Location) -> Location:
    """The same dataset of another version at the place where one is published, or will be."""
    published = storage.published_from(dataset)
    return published.sibling("").sibling(version) / published.name


def refer(file: Shard, dataset: Location) -> Shard:
    """A file of a published version's dataset as another version beside it names it."""
    return file if file.version is not None else replace(file, version=dataset.sibling("").name)


_SHARDS = TypeAdapter(list[Shard])


def read_shards(location: Location, expected_sha256: str) -> list[Shard]:
    """The files a dataset is made of, in order. Raises RunFailed when the list is not the one the manifest names, or
    is none that we wrote."""
    try:
        found = storage.sha256(location / SHARDS_FILE)
    except FileNotFoundError:
        raise RunFailed(f"{location / SHARDS_FILE} is missing: the dataset was altered; make it again") from None
    except OSError as error:
        reason = why(location / SHARDS_FILE, error)
        raise RunFailed(f"{location / SHARDS_FILE} cannot be read: {reason}; make the dataset again") from None
    if found != expected_sha256:
        raise RunFailed(
            f"{location / SHARDS_FILE} does not belong to the manifest beside it (sha256 {found[:12]}…, manifest says "
            f"{expected_sha256[:12]}…): the dataset was altered, or is just being replaced"
        )
    return shards_of_records(storage.read_table(location / SHARDS_FILE).to_pylist(), location / SHARDS_FILE)


def shards_of_records(records: Any, where: Location) -> list[Shard]:
    """Entries as they were read from a file. Raises RunFailed for one that we cannot have written, such as a path that leads
    out of the dataset."""
    try:
        return _SHARDS.validate_python(records)
    except ValidationError as error:
        raise RunFailed(f"{where} is none that we wrote: {problem_of(error)}; make the dataset again") from None


def problem_of(error: ValidationError) -> str:
    """What is wrong with a record of ours that was read, in words."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "string_pattern_mismatch":
        return f"{where} cannot be {str(problem['input'])[:100]!r}"
    return f"{where}: {problem['msg']}"


def describe_shard(
    dataset: Location,
    path: str,
    part: str,
    rows: int,
    first: int | None,
    last: int | None,
    written: storage.Written | None = None,
) -> Shard:
    """The entry of a file that was just written to ``dataset``; without ``written`` the file is read again for it."""
    if written is None:
        location = dataset / path
        size = location.filesystem.get_file_info(location.path).size
        written = storage.Written(size, storage.sha256(location))
    return Shard(part, path, rows, written.bytes, written.sha256, first, last)


def write_shards(location: Location, shards: Sequence[Shard]) -> str:
    """Writes ``shards.parquet`` and returns its sha256, for the manifest."""
    table = pa.Table.from_pylist([vars(shard) for shard in shards], schema=SHARDS)
    if table.column("version").null_count == len(table):
        table = table.drop_columns(["version"])
    return storage.write_table(location / SHARDS_FILE, table).sha256


def why(file: Location, error: OSError) -> str:
    """Why a file cannot be read, in words."""
    is_file = file.filesystem.get_file_info(file.path).is_file
    return (error.strerror or str(error).partition("\n")[0]) if is_file else "it is a folder, and no file"
