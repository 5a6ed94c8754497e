"""Examples that are shown before every question: pictures with what is asked of them and what is to be said."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.source.decode import Rejected
from clipmill.source.image_files import load_image_bytes

_COLUMNS = ("image", "prompt", "answer")
MOST = 32

Examples = tuple[tuple[bytes, str, str], ...]
"""Encoded picture, prompt and answer of each."""


def read_examples(uri: str) -> tuple[Examples, str]:
    """The examples of a file, and a sha256 of them. Raises UserError for a file that is none of examples."""
    place = storage.resolve(uri)
    table = _table(uri, place)
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"--examples {uri} has no column {missing[0]}: it needs image (a path), prompt and answer")
    if not 1 <= table.num_rows <= MOST:
        raise UserError(f"--examples {uri} has {table.num_rows} rows: give 1 to {MOST}")
    found, digest = [], hashlib.sha256()
    for number, row in enumerate(table.select(list(_COLUMNS)).to_pylist(), start=1):
        data = row["image"]
        if isinstance(data, dict):
            data = data.get("bytes") or data.get("path")
        try:
            encoded = data if isinstance(data, bytes) else load_image_bytes(str(data), place, ())
        except Rejected as rejected:
            raise UserError(f"--examples {uri}, row {number}: {rejected.detail}") from None
        found.append((encoded, str(row["prompt"] or ""), str(row["answer"] or "")))
        for part in (encoded, *(text.encode() for text in found[-1][1:])):
            digest.update(hashlib.sha256(part).digest())
    return tuple(found), digest.hexdigest()


def _table(uri: str, place: storage.Location) -> pa.Table:
    from pyarrow import csv, json, parquet

    readers = {"csv": csv.read_csv, "jsonl": json.read_json, "ndjson": json.read_json, "parquet": parquet.read_table}
    reader = readers.get(place.name.lower().rpartition(".")[2])
    if reader is None:
        raise UserError(f"--examples {uri} is not a .csv, .jsonl or .parquet file")
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            return reader(stream)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"--examples {uri} cannot be read ({' '.join(str(error).split())[:200]})") from None
