"""A CSV or JSONL file as a source file, read in place: a row is a picture that it names, or a line without one."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.source.csv_text import caption_column, csv_header, csv_table, path_column
from clipmill.source.input_file import InputFile
from clipmill.source.listed import in_memory
from clipmill.source.names import ID_NAMES
from clipmill.storage import Location

_MOST_BYTES = 4 << 30


def listed_table(place: Location) -> InputFile:
    """The rows of a CSV, TSV or JSONL file; lines that name the same picture are one row, with the captions of all.

    Paths are relative to the folder of the file. Its other columns travel as they are; of several lines those of the first.
    Raises UserError for a file that cannot be read, names no picture and no caption, or is too large to be held in memory.
    """
    with storage.open_versioned(place) as opened:
        size, etag = opened.size, opened.etag
    if size > _MOST_BYTES:
        raise UserError(
            f"{place} has {size / 1e9:.1f} GB, more than a list that is read in place may have ({_MOST_BYTES >> 30} GiB); "
            "make Parquet of it"
        )
    table = _json(place) if place.path.lower().endswith((".jsonl", ".ndjson")) else _csv(place)
    if not table.num_rows:
        raise UserError(f"{place}: there is not one row in this file")
    path = place.path if place.is_local else place.uri
    return in_memory(path, _grouped(table, place), size=size, etag=etag)


def _csv(place: Location) -> pa.Table:
    delimiter, names = csv_header(place)
    path = path_column(names, place)
    caption = caption_column([name for name in names if name != path], place)
    text = [name for name in names if name.lower() in ID_NAMES or name in (path, caption)]
    return csv_table(place, delimiter, names, text)


def _json(place: Location) -> pa.Table:
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            return pj.read_json(stream)
    except pa.ArrowInvalid as error:
        raise UserError(f"{place}: {str(error).splitlines()[0]}; each line must be one JSON object") from None


def _grouped(table: pa.Table, place: Location) -> pa.Table:
    """One row a picture, in the order in which they are first named."""
    path = path_column(table.column_names, place)
    if path is None or not pa.types.is_string(table.schema.field(path).type):
        return table
    if not any(name in table.column_names for name in ID_NAMES):
        table = table.append_column("id", table.column(path))
    values = table.column(path).combine_chunks()
    if values.null_count or len(pc.unique(values)) == len(values):
        return table
    first: dict[str, int] = {}
    owner = [first.setdefault(one, len(first)) for one in values.to_pylist()]
    lines = _first_lines(owner, len(first))
    caption = caption_column([name for name in table.column_names if name != path], place)
    grouped = table.take(pa.array(lines))
    if caption is None or not pa.types.is_string(table.schema.field(caption).type):
        return grouped
    texts: list[list[str | None]] = [[] for _ in first]
    for number, text in zip(owner, table.column(caption).to_pylist(), strict=True):
        texts[number].append(text)
    place_of = grouped.schema.get_field_index(caption)
    return grouped.set_column(place_of, caption, pa.array(texts, pa.list_(pa.string())))


def _first_lines(owner: list[int], count: int) -> list[int]:
    lines = [-1] * count
    for line, number in enumerate(owner):
        if lines[number] < 0:
            lines[number] = line
    return lines
