"""Flips: queries that one model answers and the other does not."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.report.comparison.document import FlippedQuery, Flips

EXAMPLES = 8
_HALF = 0.5


def find_flips(hit: str, column: str, first: pa.Table, second: pa.Table) -> Flips:
    """Of two tables of the same queries, row by row, those whose ``column``, the probability of a hit, crosses one half.

    Examples are the queries whose reciprocal rank changed most, those first whose text was kept.
    """
    before, after = (values_of(table, column) >= _HALF for table in (first, second))
    lost, gained = np.flatnonzero(before & ~after), np.flatnonzero(~before & after)
    change = np.zeros(len(first))
    if first.column("rank").null_count == 0 and second.column("rank").null_count == 0:
        change = np.abs(_reciprocal(first) - _reciprocal(second))
    return Flips(
        hit=hit,
        lost=len(lost),
        gained=len(gained),
        both=int(np.sum(before & after)),
        neither=int(np.sum(~before & ~after)),
        lost_examples=_examples(first, second, lost, change),
        gained_examples=_examples(first, second, gained, change),
    )


def values_of(table: pa.Table, column: str) -> NDArray[np.float64]:
    """A column of numbers; NaN where it is null."""
    return np.asarray(table.column(column).to_numpy(), np.float64)


def _reciprocal(table: pa.Table) -> NDArray[np.float64]:
    """Reciprocal ranks; of a report that does not keep them 1 / rank, which puts examples in nearly the same order."""
    kept = values_of(table, "reciprocal_rank")
    return np.where(np.isnan(kept), 1 / values_of(table, "rank"), kept)


def _examples(
    first: pa.Table, second: pa.Table, rows: NDArray[np.int64], change: NDArray[np.float64]
) -> list[FlippedQuery]:
    shown = pc.coalesce(first.column("text"), first.column("label"))
    has_text = pc.is_valid(shown).to_numpy()[rows]
    chosen = pa.array(rows[np.lexsort((-change[rows], ~has_text))][:EXAMPLES])
    texts = shown.take(chosen).to_pylist()
    one = first.select(["path", "row_number", "caption_index", "id", "rank"]).take(chosen).to_pylist()
    other = second.column("rank").take(chosen).to_pylist()
    return [
        FlippedQuery(
            path=query["path"],
            row_number=query["row_number"],
            caption_index=query["caption_index"],
            id=query["id"][:200],
            text=text,
            first_rank=query["rank"],
            second_rank=rank,
        )
        for query, text, rank in zip(one, texts, other, strict=True)
    ]
