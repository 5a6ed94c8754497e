"""Small pictures of rows: the thumbnails of an embeddings dataset, or made from its source images."""

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import ClipmillError
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings
from clipmill.source.columns import choose_columns
from clipmill.source.decode import Rejected, decode_image, load_image_bytes, thumbnail
from clipmill.source.inputs import find_inputs

SIDE = 160
_MAX_PIXELS = 178_956_970


def pictures_of(dataset: Embeddings, rows: Collection[int]) -> dict[int, bytes]:
    """JPEG or other encoded pictures by ``row``; a row is missing where neither thumbnail nor source can be read."""
    try:
        found = _thumbnails(dataset, rows)
    except (ClipmillError, OSError):
        found = {}
    by_ordinal: dict[int, list[int]] = {}
    for row in set(rows) - found.keys():
        by_ordinal.setdefault(row >> ORDINAL_SHIFT, []).append(row)
    for ordinal, wanted in by_ordinal.items():
        try:
            found |= _from_source(dataset, ordinal, wanted)
        except (ClipmillError, OSError, ValueError, KeyError):
            continue  # the source has moved or changed: the page says so by an empty frame
    return found


def _thumbnails(dataset: Embeddings, rows: Collection[int]) -> dict[int, bytes]:
    wanted = sorted(rows)
    found: dict[int, bytes] = {}
    for shard in dataset.shards_of("images"):
        if shard.first_row is None or shard.last_row is None:
            continue
        inside = [row for row in wanted if shard.first_row <= row <= shard.last_row]
        if not inside:
            continue
        parquet = dataset.open_shard(shard)
        if "thumbnail" not in parquet.schema_arrow.names:
            return {}
        for group in _groups_with(parquet, inside):
            table = parquet.read_row_group(group, columns=["row", "thumbnail"])
            table = table.filter(pc.is_in(table.column("row"), value_set=pa.array(inside, pa.int64())))
            pairs = zip(table.column("row").to_pylist(), table.column("thumbnail").to_pylist(), strict=True)
            found |= {row: picture for row, picture in pairs if picture}
    return found


def _groups_with(parquet: pq.ParquetFile, rows: list[int]) -> list[int]:
    column = parquet.schema_arrow.get_field_index("row")
    groups = []
    for group in range(parquet.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(column).statistics
        if statistics is None or any(statistics.min <= row <= statistics.max for row in rows):
            groups.append(group)
    return groups


def _from_source(dataset: Embeddings, ordinal: int, rows: list[int]) -> dict[int, bytes]:
    inputs = storage.read_table(dataset.location / INPUTS_FILE)
    paths = inputs.filter(pc.equal(inputs.column("ordinal"), ordinal)).column("path").to_pylist()
    if not paths:
        return {}
    path = paths[0]
    files = find_inputs(path)
    named = {key: dataset.manifest.configuration.get(key) for key in ("image_column", "caption_column", "id_column")}
    column = choose_columns(files, **named).image_column
    if column is None:
        return {}
    place, allowed = storage.resolve(path), dataset.manifest.configuration.get("allow_outside") or ()
    found: dict[int, bytes] = {}
    with place.filesystem.open_input_file(place.path) as stream:
        parquet = pq.ParquetFile(stream)
        first = ordinal << ORDINAL_SHIFT
        for group in range(parquet.num_row_groups):
            end = first + parquet.metadata.row_group(group).num_rows
            inside = [row for row in rows if first <= row < end]
            if inside:
                values = parquet.read_row_group(group, columns=[column]).column(0)
                for row in inside:
                    picture = _small(values[row - first].as_py(), place, allowed)
                    if picture:
                        found[row] = picture
            first = end
    return found


def _small(value: object, base: storage.Location, allowed: Sequence[str]) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    try:
        data = load_image_bytes(value, base, allowed) if isinstance(value, str) else value
        return thumbnail(decode_image(data, _MAX_PIXELS), SIDE) if isinstance(data, bytes) else None
    except Rejected:
        return None
