"""An index that is open, of one version, and what of it may be shown."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill.index.search.search import Index
from clipmill.index.search.selection import Selection
from clipmill.serve.answers.beside import Beside
from clipmill.serve.answers.choose import select_within
from clipmill.serve.answers.plain import plain
from clipmill.serve.answers.recent import Recent

_KEPT_SELECTIONS = 32


@dataclass(frozen=True)
class Opened:
    """``name`` is what the index is called here; ``version`` is null where it is not of a published place."""

    name: str
    uri: str
    version: str | None
    manifest_sha256: str
    index: Index
    beside: Beside
    _table: threading.Lock = field(default_factory=threading.Lock)

    def rows(self, positions: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Row, id and columns at each position, as JSON has them. They are not to be changed."""
        wanted = positions.tolist()
        found = self._rows.get(wanted)
        return [found[position] for position in wanted]

    @cached_property
    def model_key(self) -> str:
        """The same for indices of the same model."""
        identity = self.index.manifest.model
        return identity.model_dump_json() if identity else ""

    @cached_property
    def _rows(self) -> Recent[dict[str, Any]]:
        return Recent(self._read_rows)

    def _read_rows(self, positions: Sequence[int]) -> dict[int, dict[str, Any]]:
        """One thread at a time, since a Parquet file has one reader."""
        with self._table:
            table = self.index.table.fetch(np.array(positions))
        return dict(zip(positions, map(plain, table.to_pylist()), strict=True))

    def positions_of_id(self, identifier: str) -> NDArray[np.int64]:
        with self._table:
            return self.index.table.positions_of_id(identifier)

    def position_of_row(self, row: int) -> int | None:
        """Where a row is in the index; None where it is not. In a gallery of captions it is the first of its captions."""
        sharded = self.index.sharded
        for start, rows in zip(sharded.vectors.starts, sharded.rows, strict=False):
            at = int(np.searchsorted(rows, row))  # rows of a shard are in order, unless others were added to it
            if at < len(rows) and rows[at] == row:
                return int(start) + at
        for start, rows in zip(sharded.vectors.starts, sharded.rows, strict=False):
            found = np.flatnonzero(rows == row)
            if len(found):
                return int(start) + int(found[0])
        return None


@dataclass(frozen=True)
class Served:
    """An open index without the rows that were taken down since it was made. ``hidden`` are their positions, in order.

    Everything that answers one request comes from one of these, so no answer is mixed.
    """

    opened: Opened
    hidden: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _selections: OrderedDict[str, Selection] = field(default_factory=OrderedDict)
    _choosing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def index(self) -> Index:
        return self.opened.index

    @cached_property
    def shown(self) -> Selection | None:
        """The rows that may be returned; None: all."""
        if not len(self.hidden):
            return None
        starts = self.index.sharded.vectors.starts
        bits = []
        for start, stop in pairwise(starts):
            mask = np.ones(int(stop - start), bool)
            mask[self.hidden[(self.hidden >= start) & (self.hidden < stop)] - start] = False
            bits.append(np.packbits(mask, bitorder="little"))
        return Selection(bits, starts)

    def shows(self, position: int) -> bool:
        return self.shown is None or self.shown.holds(position)

    def metadata(self, position: int) -> dict[str, Any]:
        """The columns of one row, with its id as ``key``."""
        (row,) = self.opened.rows(np.array([position]))
        return {"key": row["id"], **{name: value for name, value in row.items() if name not in ("row", "id")}}

    def select(self, where: str | None, seconds: float) -> Selection | None:
        """The rows that may be returned and meet a condition; None: all. Raises UserError for what is no condition, or takes
        longer than ``seconds``."""
        if where is None:
            return self.shown
        with self._choosing:
            known = self._selections.get(where)
            if known is not None:
                self._selections.move_to_end(where)
                return known
        chosen = select_within(self.index.table, where, seconds)
        if self.shown is not None:
            pairs = zip(chosen.bits, self.shown.bits, strict=True)
            chosen = Selection([one & other for one, other in pairs], chosen.starts)
        with self._choosing:
            self._selections[where] = chosen
            while len(self._selections) > _KEPT_SELECTIONS:
                self._selections.popitem(last=False)
        return chosen
