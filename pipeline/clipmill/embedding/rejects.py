"""The rejects of one unit."""

from __future__ import annotations

import pyarrow as pa

from clipmill.core.schemas import REJECTED

_KINDS = ("image", "audio", "video", "caption")


class Rejects:
    """Gathers the rejects of one unit."""

    def __init__(self, decoded: pa.Table) -> None:
        self._by_row = {name: decoded.column(name).to_pylist() for name in ("row", "id", "source")}
        self._records: list[dict[str, object]] = []

    def add(self, index: int, caption_index: int | None, reason: str, detail: str, kind: str = "image") -> None:
        """The image, or the item of another ``kind``, or with a ``caption_index`` one caption of the unit's row at
        ``index``."""
        identity = {name: values[index] for name, values in self._by_row.items()}
        kind = kind if caption_index is None else "caption"
        record = {"kind": kind, "caption_index": caption_index, "reason": reason, "detail": detail}
        self._records.append({**identity, **record})

    def table(self) -> pa.Table:
        """All of them, in row order."""
        return pa.Table.from_pylist(sorted(self._records, key=_reject_order), schema=REJECTED)


def _reject_order(record: dict[str, object]) -> tuple[object, object, int]:
    index = record["caption_index"]
    return record["row"], -1 if index is None else index, _KINDS.index(str(record["kind"]))
