"""Small pictures of rows: the thumbnails of an embeddings dataset, or made from its source images."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import ClipmillError
from clipmill.core.manifests import IndexManifest
from clipmill.core.schemas import IMAGE_SHA256, ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings
from clipmill.source.columns import choose_columns
from clipmill.source.decoded_size import TooLarge, batches_of, open_parquet
from clipmill.source.diagnosis import Rejected
from clipmill.source.image_files import load_image_bytes
from clipmill.source.inputs import find_inputs
from clipmill.source.listed import is_folder

SIDE = 160
_ROWS_AT_ONCE = 64
_MAX_PIXELS = 178_956_970
_COLUMNS = ("image_column", "caption_column", "id_column")


@dataclass(frozen=True)
class Pictures:
    """JPEG or other encoded pictures by ``row``, and why others are ``missing``."""

    found: dict[int, bytes] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)


def pictures_of_results(index: IndexManifest, rows: Collection[int]) -> Pictures:
    """Pictures of rows that an index found. Where the embeddings under it are not those it was built from, rows may be others,
    and there are none."""
    try:
        dataset = Embeddings.open(index.embeddings)
    except ClipmillError as error:
        return _none_of(rows, f"its embeddings cannot be read: {error}")
    if dataset.manifest_sha256 != index.embeddings_manifest_sha256:
        return _none_of(rows, "the embeddings were made anew since the index was built")
    return pictures_of(dataset, rows)


def pictures_of(dataset: Embeddings, rows: Collection[int]) -> Pictures:
    """Thumbnails, else the pictures of the source, as long as it is what was embedded."""
    try:
        thumbnails, hashes = _columns_of(dataset, "thumbnail", rows), _columns_of(dataset, IMAGE_SHA256, rows)
    except (ClipmillError, OSError, TooLarge):
        thumbnails, hashes = {}, {}
    pictures = Pictures(dict(thumbnails))
    by_ordinal: dict[int, list[int]] = {}
    for row in set(rows) - thumbnails.keys():
        by_ordinal.setdefault(row >> ORDINAL_SHIFT, []).append(row)
    for ordinal, wanted in by_ordinal.items():
        try:
            for row, image in _from_source(dataset, ordinal, wanted):
                _add(pictures, row, image, hashes.get(row))
        except _NotTheSource as error:
            pictures.missing.update(dict.fromkeys(wanted, str(error)))
        except (ClipmillError, OSError, ValueError, KeyError):
            pictures.missing.update(dict.fromkeys(wanted, "the source cannot be read"))
    return pictures


class _NotTheSource(Exception):
    """The source file is gone, or another than was embedded."""


def _none_of(rows: Collection[int], reason: str) -> Pictures:
    return Pictures(missing=dict.fromkeys(rows, reason))


def _add(pictures: Pictures, row: int, image: bytes | None, sha256: bytes | None) -> None:
    if image is None:
        pictures.missing[row] = "the source has no such picture"
    elif sha256 is not None and hashlib.sha256(image).digest() != sha256:
        pictures.missing[row] = "the picture is another one since it was embedded"
    else:
        from clipmill.source.decode import decode_image, thumbnail  # imports torch, which stored thumbnails do not need

        try:
            pictures.found[row] = thumbnail(decode_image(image, _MAX_PIXELS), SIDE)
        except Rejected:
            pictures.missing[row] = "the picture cannot be read"


def _columns_of(dataset: Embeddings, column: str, rows: Collection[int]) -> dict[int, bytes]:
    """The values of a column of the images that is not in every dataset, by row, without nulls."""
    wanted = sorted(rows)
    found: dict[int, bytes] = {}
    for shard in dataset.shards_of("images"):
        if shard.first_row is None or shard.last_row is None:
            continue
        inside = [row for row in wanted if shard.first_row <= row <= shard.last_row]
        if not inside:
            continue
        parquet = dataset.open_shard(shard)
        if column not in parquet.schema_arrow.names:
            return {}
        for group in _groups_with(parquet, inside):
            for batch in batches_of(parquet, group, ["row", column]):
                batch = batch.filter(pc.is_in(batch.column("row"), value_set=pa.array(inside, pa.int64())))
                pairs = zip(batch.column("row").to_pylist(), batch.column(column).to_pylist(), strict=True)
                found |= {row: value for row, value in pairs if value}
    return found


def _groups_with(parquet: pq.ParquetFile, rows: list[int]) -> list[int]:
    column = parquet.schema_arrow.get_field_index("row")
    groups = []
    for group in range(parquet.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(column).statistics
        if statistics is None or any(statistics.min <= row <= statistics.max for row in rows):
            groups.append(group)
    return groups


def _from_source(dataset: Embeddings, ordinal: int, rows: list[int]) -> Iterator[tuple[int, bytes | None]]:
    """The encoded pictures of rows of one source file. Raises _NotTheSource where it is not the file that was embedded."""
    inputs = storage.read_table(dataset.location / INPUTS_FILE)
    listed = inputs.filter(pc.equal(inputs.column("ordinal"), ordinal)).to_pylist()
    if not listed:
        raise _NotTheSource("its source file is not known")
    path = listed[0]["path"]
    place = storage.resolve(path)
    outside = dataset.manifest.configuration.get("allow_outside") or ()
    if is_folder(path):
        for row, name in _names_of(dataset, rows).items():
            yield row, _encoded(name, place, outside)
        return
    try:
        with storage.open_versioned(place) as opened:
            if (opened.size, opened.etag) != (listed[0]["size"], listed[0]["etag"]):
                raise _NotTheSource(f"{path} was changed since it was embedded")
            files = find_inputs(path)
            named = {key: dataset.manifest.configuration.get(key) for key in _COLUMNS}
            column = choose_columns(files, **named).image_column
            if column is not None:
                first = ordinal << ORDINAL_SHIFT
                if files[0].listed is not None:
                    names = files[0].listed.column(column)
                    values: Iterator[tuple[int, object]] = ((row, names[row - first].as_py()) for row in rows)
                else:
                    values = _values_in(open_parquet(opened.stream), column, first, rows)
                for row, value in values:
                    yield row, _encoded(value, place, outside)
    except FileNotFoundError:
        raise _NotTheSource(f"{path} is not there any more") from None
    except TooLarge as error:
        raise _NotTheSource(f"{path}: {error}") from None


def _names_of(dataset: Embeddings, rows: list[int]) -> dict[int, str]:
    """The paths of pictures of a listed folder, relative to it."""
    if dataset.listing is None:
        return {}
    listing = dataset.listing.filter(pc.is_in(dataset.listing.column("row"), value_set=pa.array(rows, pa.int64())))
    return dict(zip(listing.column("row").to_pylist(), listing.column("path").to_pylist(), strict=True))


def _values_in(parquet: pq.ParquetFile, column: str, first: int, rows: list[int]) -> Iterator[tuple[int, object]]:
    """The values of rows, of which the file's first is ``first``."""
    for group in range(parquet.num_row_groups):
        end = first + parquet.metadata.row_group(group).num_rows
        inside = sorted(row for row in rows if first <= row < end)
        start = first
        for batch in batches_of(parquet, group, [column], _ROWS_AT_ONCE) if inside else ():
            values = batch.column(0)
            here = [row for row in inside if start <= row < start + len(values)]
            yield from ((row, values[row - start].as_py()) for row in here)
            start += len(values)
            if start > inside[-1]:
                break
        first = end


def _encoded(value: object, base: storage.Location, outside: Sequence[str]) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    try:
        data = load_image_bytes(value, base, outside) if isinstance(value, str) else value
    except Rejected:
        return None
    return data if isinstance(data, bytes) else None
