"""What there is to choose from in the columns of an index: ranges, and values with how many rows have each."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.index.search.rows import RowTable
from clipmill.serve.answers.opened import Served
from clipmill.serve.answers.plain import plain

_MOST_ROWS = 2_000_000
"""Rows looked at: enough for what is common, within a second or two."""
_MOST_VALUES = 200
_SHOWN_VALUES = 200
_WHOLE_RANGE = 12
"""Whole numbers of no more values than this are chosen one by one."""


def columns_of(served: Served) -> list[dict[str, Any]]:
    """Each column as `Column` says it; rows that were taken down do not count."""
    table = _first_rows(served)
    return [_column(name, table.column(name)) for name in table.column_names if name not in ("row", "id")]


def _first_rows(served: Served) -> pa.Table:
    table = RowTable(served.index.table.paths, served.index.table.starts)
    names = [field.name for field in table.schema if field.name not in ("row", "id") and _choosable(field.type)]
    found, start = [table.schema.empty_table().select(names)], 0
    for shard in range(len(table.paths)):
        for batch in table.batches(shard, names, 65_536):
            if start >= _MOST_ROWS or not names:
                break
            here = served.hidden[(served.hidden >= start) & (served.hidden < start + batch.num_rows)] - start
            mask = np.ones(batch.num_rows, bool)
            mask[here] = False
            found.append(batch.filter(pa.array(mask)))
            start += batch.num_rows
    return pa.concat_tables(found)


def _choosable(kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    choosable: bool = is_text or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return choosable


def _column(name: str, values: pa.ChunkedArray) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "type": str(values.type), "nulls": values.null_count}
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    counts = pc.value_counts(values.drop_null()).to_pylist()
    if numeric and (pa.types.is_floating(values.type) or len(counts) > _WHOLE_RANGE):
        ends = pc.min_max(values).as_py()
        return {**told, "kind": "range", "low": plain(ends["min"]), "high": plain(ends["max"])}
    if not counts or len(counts) > _MOST_VALUES:
        return {**told, "kind": "text"}
    ordered = sorted(counts, key=lambda one: (-one["counts"], str(one["values"])))[:_SHOWN_VALUES]
    if numeric:
        ordered.sort(key=lambda one: one["values"])
    return {**told, "kind": "values", "values": [(plain(one["values"]), one["counts"]) for one in ordered]}
