"""Rows that meet a condition, found in bounded time."""

import time

import numpy as np

from clipmill.core.errors import UserError
from clipmill.datasets.expressions import Expression
from clipmill.index.search.rows import RowTable
from clipmill.index.search.selection import Selection

_BATCH_ROWS = 65_536


def select_within(table: RowTable, where: str, seconds: float) -> Selection:
    """As `clipmill.index.search.selection.select`. The files are opened anew, so that several conditions are looked at at a
    time. Raises UserError for what is no condition, and where it took longer than ``seconds``."""
    own = RowTable(table.paths, table.starts)
    expression = Expression.parse(where, own.schema, "where", seconds)
    ends = time.monotonic() + seconds
    bits = []
    for shard in range(len(own.paths)):
        masks = [np.zeros(0, bool)]
        for batch in own.batches(shard, expression.columns, _BATCH_ROWS):
            masks.append(expression.mask(batch))
            if time.monotonic() > ends:
                raise UserError(f"where {where!r}: it took more than {seconds:g} seconds; ask for something simpler")
        bits.append(np.packbits(np.concatenate(masks), bitorder="little"))
    return Selection(bits, own.starts)
