"""What each row of a group is worth by the rule that chooses the one to keep."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.index.build.gallery import Gallery

_READ_ROWS = 65_536
_RULES = ("first", "largest", "clip-score")


def worth_columns(gallery: Gallery, keep: str) -> list[str]:
    """The columns by which one row of a group is chosen. Raises UserError for a rule that this gallery does not allow."""
    if keep == "first":
        return []
    if keep == "largest" and gallery.part == "images":
        return ["width", "height"]
    if keep == "clip-score" and gallery.dataset.count("captions"):
        return ["clip_score"] if gallery.part == "captions" else []
    if keep not in _RULES and keep in gallery.kept_columns:
        kind = gallery.open_file(0).schema_arrow.field(keep).type
        if (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_temporal(kind)
        ):
            return [keep]
        raise UserError(
            f"--keep {keep}: the column is {kind}, and of such values none is the greatest; name a number or time"
        )
    there = ", ".join(gallery.kept_columns) or "none"
    raise UserError(
        f"--keep {keep}: {gallery.dataset.location} has no such column among its {gallery.part} (kept columns: {there}); "
        f"give one, or {', '.join(_RULES)} where images or captions have that"
    )


def describe(gallery: Gallery, members: NDArray[np.int64], keep: str) -> tuple[pa.Table, NDArray[np.float64]]:
    """The identity of positions, and what each is worth by the rule; one pass over those columns."""
    identity = ["row", "id", *(["caption_index"] if gallery.part == "captions" else [])]
    named = worth_columns(gallery, keep)
    found: list[pa.Table] = []
    position = 0
    columns = list(dict.fromkeys([*identity, *named]))
    for batch in gallery.batches(0, gallery.n, columns, _READ_ROWS):
        inside = members[np.searchsorted(members, position) : np.searchsorted(members, position + batch.num_rows)]
        found.append(pa.Table.from_batches([batch]).take(inside - position))
        position += batch.num_rows
    rows = pa.concat_tables(found)
    if keep == "clip-score" and gallery.part != "captions":
        return rows, _best_clip_scores(gallery, rows.column("row").to_numpy())
    worth = np.zeros(len(members)) if keep == "first" else np.ones(len(members))
    for name in named:
        column = rows.column(name)
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
        worth *= pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy()
    return rows, worth


def _best_clip_scores(gallery: Gallery, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each image row (in order) the greatest clip score of its captions; NaN where it has none."""
    best = np.full(len(rows), -np.inf)
    for batch in gallery.dataset.batches("captions", ["row", "clip_score"]):
        at = np.minimum(np.searchsorted(rows, batch.column("row").to_numpy()), len(rows) - 1)
        scores = pc.fill_null(batch.column("clip_score"), float("-inf")).to_numpy(zero_copy_only=False)
        ours = rows[at] == batch.column("row").to_numpy()
        np.maximum.at(best, at[ours], scores[ours])
    return np.where(np.isinf(best), np.nan, best)
