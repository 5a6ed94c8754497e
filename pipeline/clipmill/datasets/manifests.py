"""Finished datasets: opening one by its manifest, streaming its parts, and writing the manifest that makes one exist."""

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import (
    DuplicatesManifest,
    EmbeddingsManifest,
    IndexManifest,
    SelectionManifest,
    SourceManifest,
)
from clipmill.core.schemas import IMAGE_SHA256
from clipmill.core.secrets import clean
from clipmill.core.text_manifests import CaptionedManifest, TextsManifest
from clipmill.datasets.shards import Shard, problem_of, read_shards, why
from clipmill.storage import Location

MANIFEST = "manifest.json"
INPUTS_FILE = "inputs.parquet"
LISTING_FILE = "listing.parquet"
PUBLISHED_SUFFIX = ".clipmill"
"""What the name of a place ends with that `clipmill run` publishes to where nobody says: NAME.clipmill beside NAME."""

AnyManifest = (
    EmbeddingsManifest
    | IndexManifest
    | DuplicatesManifest
    | SelectionManifest
    | SourceManifest
    | TextsManifest
    | CaptionedManifest
)
_MANIFESTS: tuple[Any, ...] = get_args(AnyManifest)
Manifest = TypeVar(
    "Manifest",
    EmbeddingsManifest,
    IndexManifest,
    DuplicatesManifest,
    SelectionManifest,
    SourceManifest,
    TextsManifest,
    CaptionedManifest,
)
KINDS = frozenset(one.model_fields["kind"].default for one in _MANIFESTS)
_MADE_WITH = {
    "embeddings": "embed",
    "index": "index",
    "duplicates": "dedup",
    "selection": "filter",
    "source": "import",
    "texts": "caption",
    "captioned": "recaption",
}


def read_manifest(location: Location, kind: type[Manifest]) -> Manifest:
    """The manifest of the dataset at ``location``.

    Raises UserError when there is none, when it is another kind of dataset, or was written by a newer clipmill.
    """
    wanted = kind.model_fields["kind"].default
    try:
        data = storage.read_bytes(location / MANIFEST)
    except FileNotFoundError:
        raise UserError(
            f"{location} has no {MANIFEST}, so it is not a finished {wanted} dataset; {_hint(wanted, location)}"
        ) from None
    except OSError as error:
        raise RunFailed(f"{location / MANIFEST} cannot be read: {why(location / MANIFEST, error)}") from None
    head = _Head.parse(data, location)
    if head.kind != wanted:
        raise UserError(
            f"{location} is a dataset of kind {head.kind!r}, but {wanted!r} is needed here; {_hint(wanted)}"
        )
    newest = getattr(kind, "NEWEST", kind.model_fields["schema_version"].default)
    if head.schema_version > newest:
        raise UserError(
            f"{location} was written by a newer clipmill (schema version {head.schema_version}, this one reads up to "
            f"{newest}); upgrade clipmill"
        )
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise RunFailed(f"{location / MANIFEST} is damaged: {problem_of(error)}; make the dataset again") from None


def kind_at(output: Location) -> str | None:
    """What the manifest at an output says that it is of; None where there is none that can be read."""
    try:
        data = storage.read_bytes(output / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _Head.parse(data, output).kind
    except RunFailed:
        return None


def find_manifest(location: Location) -> AnyManifest | None:
    """The manifest of whatever dataset of ours is there; None where there is none. Raises as `read_manifest` does."""
    kind = kind_at(location)
    kinds: dict[str | None, Any] = {one.model_fields["kind"].default: one for one in _MANIFESTS}
    return read_manifest(location, kinds[kind]) if kind in kinds else None


def _hint(kind: str, location: Location | None = None) -> str:
    """What to do where a dataset is needed; of an input that `clipmill run` was run on, the place of what it made."""
    if location is not None and "/" in location.path.strip("/"):
        beside = location.sibling(location.name + PUBLISHED_SUFFIX)
        if storage.is_file(beside / "current.json"):
            return f"`clipmill run` has made one of it; type this in its place: {beside}"
        if meant := _meant(location):
            return f"there is no such folder; did you mean {meant}?"
        if kind == "index" and location.is_local and storage.exists(location):
            return (
                f"make one with `clipmill index`; of pictures and all that belongs to it, type: clipmill run {location}"
            )
    return f"make one with `clipmill {_MADE_WITH[kind]}`"


def _meant(location: Location) -> Location | None:
    """The dataset or published place nearby whose name is most like that of a folder that is not there; of local ones."""
    if not location.is_local or storage.exists(location):
        return None
    folder = Path(location.path).parent
    try:
        close = difflib.get_close_matches(location.name, os.listdir(folder), n=3)
    except OSError:
        return None
    ours = (name for name in close if any(os.path.isfile(folder / name / file) for file in (MANIFEST, "current.json")))
    return next(map(location.sibling, ours), None)


@dataclass(frozen=True)
class _Head:
    kind: str
    schema_version: int

    @staticmethod
    def parse(data: bytes, location: Location) -> "_Head":
        try:
            document = json.loads(data)
            return _Head(str(document["kind"]), int(document["schema_version"]))
        except (ValueError, KeyError, TypeError):
            raise RunFailed(f"{location / MANIFEST} is not a clipmill manifest, or was cut short") from None


def write_manifest(location: Location, manifest: BaseModel, name: str = MANIFEST) -> storage.Written:
    """The last file of a dataset, called ``name``, which makes it exist."""
    return storage.write_bytes(location / name, clean(manifest.model_dump_json(indent=2)).encode())


def vectors_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float16]:
    """An embedding column as (n, d) float16, without a copy where the column is one chunk."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            parts = [vectors_of(chunk) for chunk in column.chunks]
            return np.concatenate(parts) if parts else np.empty((0, column.type.list_size), np.float16)
        column = column.chunk(0)
    width = column.type.list_size
    values = column.values.to_numpy(zero_copy_only=True)
    result: NDArray[np.float16] = values[column.offset * width : (column.offset + len(column)) * width].reshape(
        len(column), width
    )
    return result


def embedding_column(vectors: NDArray[np.float16]) -> pa.FixedSizeListArray:
    """(n, d) float16 as an embedding column, without a copy where it is contiguous."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), type=pa.float16())
    field = pa.field("item", pa.float16(), nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(field, vectors.shape[1]))


def part_writer(stream: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer of one part that leaves embeddings, pictures and hashes uncompressed and without dictionary.

    A compressed fixed size list of float16 reads several times slower; the others do not get smaller. The least and
    greatest number in a batch of vectors tell nobody anything, and finding them is a third of the time.
    """
    paths = {"embedding": "embedding.list.element"}
    large = [name for name in schema.names if pa.types.is_large_binary(schema.field(name).type)]
    compression = {
        paths.get(name, name): "none" if name in ("embedding", "thumbnail", IMAGE_SHA256, *large) else "zstd"
        for name in schema.names
    }
    dictionary = [
        name for name in schema.names if pa.types.is_string(schema.field(name).type) and name not in ("id", "caption")
    ]
    counted = [name for name in schema.names if name not in (*paths, *large)]
    return pq.ParquetWriter(
        stream, schema, compression=compression, use_dictionary=dictionary or False, write_statistics=counted
    )


@dataclass(frozen=True)
class Embeddings:
    """A finished embeddings dataset, read part by part and never whole."""

    location: Location
    manifest: EmbeddingsManifest
    manifest_sha256: str

    @staticmethod
    def open(uri: str) -> "Embeddings":
        """Opens the dataset at ``uri``; UserError when there is none."""
        location = storage.resolve(uri)
        manifest = read_manifest(location, EmbeddingsManifest)
        return Embeddings(location, manifest, storage.sha256(location / MANIFEST))

    @cached_property
    def shards(self) -> list[Shard]:
        return read_shards(self.location, self.manifest.shards_sha256)

    @cached_property
    def listing(self) -> pa.Table | None:
        """The pictures of the listed folders that this was made from, as `LISTING`; None where there was none.

        Raises RunFailed where it is not the one that the manifest was written with."""
        if self.manifest.listing_sha256 is None:
            return None
        place = self.location / LISTING_FILE
        if not storage.is_file(place) or storage.sha256(place) != self.manifest.listing_sha256:
            raise RunFailed(f"{place} is missing or altered; `clipmill verify {self.location}` tells more")
        return storage.read_table(place)

    def shards_of(self, part: str) -> list[Shard]:
        """The files of one part (images, captions, rejected) in row order."""
        return [shard for shard in self.shards if shard.part == part]

    def count(self, part: str) -> int:
        """Rows in one part."""
        return sum(shard.rows for shard in self.shards_of(part))

    def open_shard(self, shard: Shard, *, pre_buffer: bool = True) -> pq.ParquetFile:
        """One file, open for reading by row group. ``pre_buffer`` fetches all columns asked for at once, and keeps what was
        fetched last. Raises RunFailed when it is absent or damaged."""
        location = shard.at(self.location)
        try:
            return pq.ParquetFile(location.filesystem.open_input_file(location.path), pre_buffer=pre_buffer)
        except (OSError, pa.ArrowInvalid) as error:
            raise RunFailed(
                f"{location} cannot be read ({error}); `clipmill verify {self.location}` tells more"
            ) from None

    def batches(
        self, part: str, columns: Sequence[str], batch_rows: int = 65_536, first_row: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """One part in row order, some columns, at most ``batch_rows`` rows at a time. Files and row groups that end before
        ``first_row`` are left out; rows before it may come."""
        for shard in self.shards_of(part):
            if shard.last_row is not None and shard.last_row < first_row:
                continue
            parquet = self.open_shard(shard)
            groups = [group for group in range(parquet.num_row_groups) if not _ends_before(parquet, group, first_row)]
            yield from map(self.as_known, parquet.iter_batches(batch_rows, row_groups=groups, columns=list(columns)))

    def as_known(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of this dataset with null in place of captions that are not known: version 0.1.0 imported those of
        vectors without text as empty strings, which no caption that a model embedded is."""
        if not self.manifest.imported or "caption" not in batch.schema.names:
            return batch
        at = batch.schema.get_field_index("caption")
        captions = batch.column(at)
        known = pc.if_else(pc.equal(captions, ""), pa.scalar(None, pa.string()), captions)
        return batch.set_column(at, pa.field("caption", pa.string()), known)

    def table(self, part: str, columns: Sequence[str]) -> pa.Table:
        """Some columns of a whole part in memory: for parts known to be small."""
        batches = list(self.batches(part, columns))
        if batches:
            return pa.Table.from_batches(batches)
        schema = self.open_shard(self.shards_of(part)[0]).schema_arrow
        return pa.schema([schema.field(name) for name in columns]).empty_table()


def _ends_before(parquet: pq.ParquetFile, group: int, row: int) -> bool:
    """Whether a row group is known to hold only rows before this one."""
    metadata = parquet.metadata.row_group(group)
    columns = (metadata.column(number) for number in range(metadata.num_columns if row else 0))
    known = next((column.statistics for column in columns if column.path_in_schema == "row"), None)
    return known is not None and known.has_min_max and known.max < row
